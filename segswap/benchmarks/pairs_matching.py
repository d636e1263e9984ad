"""Held-out pairs: outputs of a matcher on positive and negative pairs, and the cosine baseline's threshold."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from segswap.benchmarks.pairs import STYLES, number_taken, picture_names
from segswap.errors import InputError
from segswap.matching.cosine import best_cosines
from segswap.matching.features import FeatureStore
from segswap.matching.predict import predict_pairs
from segswap.matching.score import symmetric_scores
from segswap.pairs.pair_set import PairSet, picture_name
from segswap.progress import progress


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
        count = number_taken(pairs, self.limit)
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
            score = symmetric_scores(*both, protocol)
            for n, row in enumerate(found.rows):
                style, a, b = items[row]
                rows.append(
                    {
                        "kind": pairs.kind,
                        "style": style,
                        "position_a": a,
                        "position_b": b,
                        "score": float(score[n]),
                        "maps_a": found.maps_x[n].half().cpu().numpy().tobytes(),
                        "maps_b": found.maps_y[n].half().cpu().numpy().tobytes(),
                    }
                )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


@torch.inference_mode()
def calibrate_threshold(train: HeldOutPairs, device: torch.device) -> dict[str, float]:
    """Choose the cosine baseline's threshold on training pairs: the one of largest mean mask IoU.

    Returns:
        ``threshold`` and the ``mask_iou`` reached with it on these pairs.
    """
    thresholds = np.linspace(-0.2, 1, 241)
    ious = []
    for which, (pairs, store) in enumerate(zip(train.sets, train.stores, strict=True)):
        for style, a, b in progress(train.items(which), f"cosines {pairs.kind}"):
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
