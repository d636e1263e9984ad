"""What a score means: how often a picture without the detail scores as high (conformal p-values).

Negatives are scores against pictures that do not hold the query. Where a picture without it is drawn as they were,
its rank among them is as likely to be any: its p-value is at most r with a probability of at most r, whatever the
distribution of scores is (Vovk et al. 2005). A negative that holds the query after all makes p-values larger, never
smaller.
"""

from __future__ import annotations

import math

import numpy as np


def p_values(scores: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return for each score (n,) the share (1 + negatives at least as high) / (1 + negatives), in (0, 1]."""
    ordered = np.sort(np.asarray(negatives, np.float64))
    at_least = len(ordered) - np.searchsorted(ordered, np.asarray(scores, np.float64), side="left")
    return (1 + at_least) / (1 + len(ordered))


def threshold(negatives: np.ndarray, rate: float) -> float | None:
    """Return the smallest score whose p-value is at most ``rate``; None where there are too few negatives for it.

    Args:
        rate: above 0 and below 1.
    """
    ordered = np.sort(np.asarray(negatives, np.float64))[::-1]
    ranks = np.arange(1, len(ordered) + 2)
    as_high = np.count_nonzero(ranks / (1 + len(ordered)) <= rate) - 1
    return None if as_high < 0 else float(np.nextafter(ordered[as_high], math.inf))


def negatives_needed(rate: float) -> int:
    """Return how many negatives a threshold at ``rate`` needs at least."""
    needed = max(0, math.floor(1 / rate) - 1)
    return needed if 1 / (1 + needed) <= rate else needed + 1
