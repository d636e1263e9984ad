"""Held-out pairs: generated pairs of photos never used in training, against their own labels.

For each pair, plain and stylised, the positive pair (a, b) and a negative pair (a, b of another pair that
shares no photo with it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from segswap.pairs.pair_set import PairSet, picture_name
from segswap.pairs.render import Labels
from segswap.progress import progress

STYLES = {"plain": ("a.jpg", "b.jpg"), "styled": ("as.jpg", "bs.jpg")}


def number_taken(pairs: PairSet, limit: int | None) -> int:
    """Return how many pairs a limit takes from a set, from its beginning."""
    return len(pairs) if limit is None else min(limit, len(pairs))


def picture_names(pairs: PairSet, limit: int | None = None) -> list[str]:
    """Return the names of the pictures of a set's first ``limit`` pairs in its feature store, in order."""
    return [picture_name(pairs, n, name) for n in range(number_taken(pairs, limit)) for name in pairs.pictures]


def picture_loaders(pairs: PairSet, limit: int | None = None) -> list[Callable[[], np.ndarray]]:
    """Return readers of the pictures of ``picture_names``."""
    return [partial(pairs.picture, n, name) for n in range(number_taken(pairs, limit)) for name in pairs.pictures]


def _unpack(data: bytes, labels: Labels) -> np.ndarray:
    return np.frombuffer(data, np.float16).astype(np.float32).reshape(3, *labels.mask_a.shape)


def _pair_numbers(labels: Labels, maps_a: np.ndarray, maps_b: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mask IoU over both images and the errors, in cells, of the cells masked in the labels."""
    intersection = union = 0
    errors = []
    for side, maps in (("a", maps_a), ("b", maps_b)):
        truth = getattr(labels, f"mask_{side}") > 0.5
        found = maps[2] > 0.5
        intersection += int((truth & found).sum())
        union += int((truth | found).sum())
        size = np.array(truth.shape[::-1], float)[:, None]
        errors.append(np.linalg.norm((maps[:2] - getattr(labels, f"corr_{side}"))[:, truth] * size, axis=0))
    return intersection / max(union, 1), np.concatenate(errors)


def metrics(heldout_sets: Sequence[PairSet], table: pa.Table) -> dict[str, float]:
    """Return the numbers of stored predictions.

    ``mask_iou`` (masks at 0.5, both images of a pair together, mean over positive pairs), ``within_cell``
    (share of masked cells whose correspondence is at most one cell off), ``median_error`` (in cells),
    ``roc_auc`` (of the pair score, positive against negative pairs), ``negative_mask`` (mean mask on negative
    pairs); over everything, and ``mask_iou`` and ``roc_auc`` for each kind and style.
    """
    # Late: scikit-learn takes most of a second to load, and pictures and predictions need the rest of this module only.
    from sklearn.metrics import roc_auc_score

    sets = {pairs.kind: pairs for pairs in heldout_sets}
    labels = {
        (kind, n): pairs.labels(n)
        for kind, pairs in sets.items()
        for n in set(table.filter(pa.compute.equal(table["kind"], kind))["position_a"].to_pylist())
    }
    groups: dict[str, dict[str, list]] = {}
    for row in progress(_rows(table), "pairs judged", total=len(table)):
        positive = row["position_a"] == row["position_b"]
        own = labels[row["kind"], row["position_a"]]
        maps = _unpack(row["maps_a"], own), _unpack(row["maps_b"], own)
        for name in ("", f"_{row['kind']}", f"_{row['style']}"):
            group = groups.setdefault(name, {"iou": [], "errors": [], "scores": [], "positive": [], "quiet": []})
            group["scores"].append(row["score"])
            group["positive"].append(positive)
            if positive:
                iou, errors = _pair_numbers(own, *maps)
                group["iou"].append(iou)
                group["errors"].append(errors)
            else:
                group["quiet"].append((maps[0][2].mean() + maps[1][2].mean()) / 2)
    numbers: dict[str, float] = {}
    for name, group in groups.items():
        errors = np.concatenate(group["errors"])
        numbers[f"mask_iou{name}"] = float(np.mean(group["iou"]))
        numbers[f"within_cell{name}"] = float((errors <= 1).mean())
        numbers[f"roc_auc{name}"] = float(roc_auc_score(group["positive"], group["scores"]))
        if not name:
            numbers["median_error"] = float(np.median(errors))
            numbers["negative_mask"] = float(np.mean(group["quiet"]))
            numbers["pairs"] = len(group["iou"])
    return numbers


def _rows(table: pa.Table) -> Iterator[dict]:
    for batch in table.to_batches():
        yield from batch.to_pylist()
