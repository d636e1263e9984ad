"""Held-out pairs: generated pairs of photos never used in training, against their own labels.

For each pair, plain and stylised, the positive pair (a, b) and a negative pair (a, b of another pair that
shares no photo with it).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from segswap.errors import InputError
from segswap.matching.cosine import best_cosines
from segswap.matching.features import FeatureStore
from segswap.matching.predict import predict_pairs
from segswap.matching.score import score_pairs
from segswap.pairs.render import Labels
from segswap.pairs.shards import PairSet, picture_name

STYLES = {"plain": ("a.jpg", "b.jpg"), "styled": ("as.jpg", "bs.jpg")}


@dataclasses.dataclass(frozen=True)
class HeldOutPairs:
    """Pair sets with the features of their pictures.

    Attributes:
        sets: one- and two-object sets.
        stores: features of each set's pictures.
        limit: number of pairs taken from each set, from its beginning; None: all.
    """

    sets: list[PairSet]
    stores: list[FeatureStore]
    limit: int | None

    @classmethod
    def load(
        cls,
        manifests: Sequence[str | os.PathLike],
        stores: Sequence[str | os.PathLike],
        backbone: nn.Module,
        limit: int | None = None,
    ) -> HeldOutPairs:
        """Open held-out sets and their feature stores, which hold at least the pairs up to ``limit``.

        Raises:
            InputError: when they are damaged or do not agree.
        """
        sets = [PairSet(manifest) for manifest in manifests]
        opened = [FeatureStore(store, backbone) for store in stores]
        for pairs, store, path in zip(sets, opened, stores, strict=True):
            wanted = picture_names(pairs, limit)
            if store.names[: len(wanted)] != wanted:
                raise InputError(f"{path}: features of other pairs than asked for; delete the store and run again")
        return cls(sets, opened, limit)

    def items(self, which: int) -> list[tuple[str, int, int]]:
        """Return (style, position of a, position of b) of a set's positive, then negative pairs."""
        pairs = self.sets[which]
        count = _number_taken(pairs, self.limit)
        styles = [name for name, pictures in STYLES.items() if pictures[0] in pairs.pictures]
        positive = [(n, n) for n in range(count)]
        negative = [(n, self._unrelated(pairs, n, count)) for n in range(count)]
        return [(style, a, b) for style in styles for a, b in positive + negative]

    @staticmethod
    def _unrelated(pairs: PairSet, position: int, count: int) -> int:
        source = pairs.photos(position)[0]
        for step in range(1, count):
            other = (position + step) % count
            if source not in pairs.photos(other):
                return other
        raise InputError(f"{pairs.folder}: no pair is unrelated to {pairs.key(position)}; make more held-out pairs")


def _number_taken(pairs: PairSet, limit: int | None) -> int:
    return len(pairs) if limit is None else min(limit, len(pairs))


def picture_names(pairs: PairSet, limit: int | None = None) -> list[str]:
    """Return the names of the pictures of a set's first ``limit`` pairs in its feature store, in order."""
    return [picture_name(pairs, n, name) for n in range(_number_taken(pairs, limit)) for name in pairs.pictures]


def picture_loaders(pairs: PairSet, limit: int | None = None) -> list[Callable[[], np.ndarray]]:
    """Return readers of the pictures of ``picture_names``."""
    return [partial(pairs.picture, n, name) for n in range(_number_taken(pairs, limit)) for name in pairs.pictures]


_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("style", pa.string()),
        ("position_a", pa.int32()),
        ("position_b", pa.int32()),
        ("score", pa.float32()),
        ("maps_a", pa.binary()),
        ("maps_b", pa.binary()),
    ]
)


def predict(heldout: HeldOutPairs, matcher: nn.Module, device: torch.device, protocol: str) -> pa.Table:
    """Match all positive and negative pairs.

    Returns:
        one row per pair; ``score`` is the mean of both directed pair scores, ``maps_a`` and ``maps_b`` are
        float16 (3, h, w) as bytes.
    """
    rows: list[dict] = []
    for which, (pairs, store) in enumerate(zip(heldout.sets, heldout.stores, strict=True)):
        items = heldout.items(which)
        places = np.array(
            [
                [store.place(picture_name(pairs, n, name)) for n, name in zip((a, b), STYLES[style], strict=True)]
                for style, a, b in items
            ]
        )
        for found in predict_pairs(matcher, store, store, places, device, what=f"held-out {pairs.kind}"):
            both = (found.maps_x, found.maps_y, found.features_x, found.features_y)
            ones = torch.ones_like(found.maps_x[:, 2:])
            score = score_pairs(*both, ones, protocol) + score_pairs(both[1], both[0], both[3], both[2], ones, protocol)
            for n, row in enumerate(found.rows):
                style, a, b = items[row]
                rows.append(
                    {
                        "kind": pairs.kind,
                        "style": style,
                        "position_a": a,
                        "position_b": b,
                        "score": float(score[n]) / 2,
                        "maps_a": found.maps_x[n].half().cpu().numpy().tobytes(),
                        "maps_b": found.maps_y[n].half().cpu().numpy().tobytes(),
                    }
                )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


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
    sets = {pairs.kind: pairs for pairs in heldout_sets}
    labels = {
        (kind, n): pairs.labels(n)
        for kind, pairs in sets.items()
        for n in set(table.filter(pa.compute.equal(table["kind"], kind))["position_a"].to_pylist())
    }
    groups: dict[str, dict[str, list]] = {}
    for row in _rows(table):
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


@torch.inference_mode()
def calibrate_threshold(train: HeldOutPairs, device: torch.device) -> dict[str, float]:
    """Choose the cosine baseline's threshold on training pairs: the one of largest mean mask IoU.

    Returns:
        ``threshold`` and the ``mask_iou`` reached with it on these pairs.
    """
    thresholds = np.linspace(-0.2, 1, 241)
    ious = []
    for which, (pairs, store) in enumerate(zip(train.sets, train.stores, strict=True)):
        for style, a, b in train.items(which):
            if a != b:
                continue
            names = [picture_name(pairs, a, name) for name in STYLES[style]]
            x, y = (store.read([store.place(name)]).to(device) for name in names)
            own = pairs.labels(a)
            truth = np.concatenate([own.mask_a.ravel(), own.mask_b.ravel()]) > 0.5
            best = torch.cat([best_cosines(x, y).flatten(), best_cosines(y, x).flatten()]).cpu().numpy()
            found = best[None] > thresholds[:, None]
            ious.append((found & truth).sum(1) / (found | truth).sum(1))
    mean = np.mean(ious, axis=0)
    return {"threshold": float(thresholds[mean.argmax()]), "mask_iou": float(mean.max())}
