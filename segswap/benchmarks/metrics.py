"""Measures of the benchmarks, on plain arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

Box = Sequence[float]
"""(x1, y1, x2, y2) in pixels."""


def average_precision(relevant: Sequence[bool] | np.ndarray, n_truth: int) -> float:
    """Return the average precision of a ranking: the precisions at the relevant ranks, summed, over ``n_truth``.

    Args:
        relevant: best first; whether each ranked item is one of the truths.
        n_truth: number of truths, found or not; must be positive.
    """
    relevant = np.asarray(relevant, bool)
    hits = np.cumsum(relevant)
    return float((hits / np.arange(1, len(relevant) + 1))[relevant].sum() / n_truth)


def mean_over_categories(values: dict[str, Sequence[float]]) -> float:
    """Return the mean over the categories of the mean over each category's queries."""
    return float(np.mean([np.mean(of_queries) for of_queries in values.values()]))


def box_iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def detection_average_precision(
    predictions: Sequence[tuple[str, Box]],
    truths: Sequence[tuple[str, Box]],
    threshold: float,
    most: int = 1000,
) -> float:
    """Return the average precision of ranked detections (ArtMiner's definition).

    A detection hits when it is in the right image and overlaps one of its truths, not matched before, by an
    IoU above the threshold.

    Args:
        predictions: (image, box), best first; only the first ``most`` count.
        truths: (image, box).
        threshold: of the IoU, exclusive.
    """
    open_truths = list(truths)
    hits = []
    for image, box in predictions[:most]:
        overlaps = [box_iou(box, truth) if name == image else 0.0 for name, truth in open_truths]
        best = int(np.argmax(overlaps)) if overlaps else -1
        hit = best >= 0 and overlaps[best] > threshold
        if hit:
            open_truths.pop(best)
        hits.append(hit)
    return average_precision(hits, len(truths))


def positives_within(queries: np.ndarray, database: np.ndarray, metres: float) -> list[np.ndarray]:
    """Return for each query the database items within a distance, the bound included.

    Args:
        queries: positions (Q, 2) or (Q, 3) in metres. database: (D, 2) or (D, 3), in the same frame.
    """
    # The tree rounds squares: look a little further, then compare distances themselves.
    near = cKDTree(database).query_ball_point(queries, metres * (1 + 1e-9) + 1e-6)
    found = []
    for query, candidates in zip(queries, near, strict=True):
        candidates = np.array(sorted(candidates), int)
        distance = np.hypot.reduce(database[candidates] - query, axis=1)
        found.append(candidates[distance <= metres])
    return found


def first_ranks(rankings: Sequence[np.ndarray], positives: Sequence[np.ndarray]) -> list[int | None]:
    """Return for each query the rank of its first positive, from 1; None where none is in its ranking."""
    ranks = []
    for ranking, truth in zip(rankings, positives, strict=True):
        hits = np.flatnonzero(np.isin(ranking, truth))
        ranks.append(int(hits[0]) + 1 if len(hits) else None)
    return ranks


def recall_at(ranks: Sequence[int | None], counts: Sequence[int]) -> dict[int, float]:
    """Return for each N the share of queries whose first positive is among their first N.

    A query without any positive counts as missed, as in the field's evaluation programs.

    Args:
        ranks: as of ``first_ranks``.
        counts: the N.
    """
    return {count: float(np.mean([rank is not None and rank <= count for rank in ranks])) for count in counts}


def first_of_each(ranking: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Keep only the best-ranked item of each group (spatial suppression: one view per place).

    Args:
        ranking: item ids, best first.
        groups: group of every item, indexed by item id.
    """
    _, first = np.unique(groups[ranking], return_index=True)
    return ranking[np.sort(first)]


def pixel_precision(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of pixels on which two masks, bool (H, W), agree."""
    return float((found == truth).mean())


def jaccard(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the intersection over union of two masks; 0 when both are empty."""
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 0.0
