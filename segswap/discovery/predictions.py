"""The predictions of a collection's image pairs that are kept: what the correspondence graph is made of."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from segswap.errors import InputError
from segswap.files import read_arrays, write_arrays


@dataclasses.dataclass(frozen=True)
class MatchSettings:
    """How the pairs of a collection are matched, and which of them are kept.

    Attributes:
        flip: whether each pair is also tried with its second image mirrored.
        min_share: pairs whose cycle masks, or both scores, are below this share of the cells are dropped.
        protocol: ``corrected`` or ``published``.
    """

    flip: bool
    min_share: float
    protocol: str


@dataclasses.dataclass(frozen=True)
class PairPredictions:
    """Predictions of the image pairs that are kept.

    Attributes:
        pairs: int64 (P, 2), image numbers.
        maps_1, maps_2: float16 (P, 3, h, w), outputs of the first and second images.
        scores: float64 (P, 2), directed, first to second and back.
    """

    pairs: np.ndarray
    maps_1: np.ndarray
    maps_2: np.ndarray
    scores: np.ndarray

    def write(self, path: str | os.PathLike) -> None:
        """Write as a compressed npz file."""
        write_arrays(path, **{name: getattr(self, name) for name in _FIELDS})


_FIELDS = tuple(field.name for field in dataclasses.fields(PairPredictions))


def joined(parts: Sequence[PairPredictions]) -> PairPredictions:
    """Join predictions of different pairs of one collection; at least one part."""
    return PairPredictions(*(np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS))


def read_pair_predictions(paths: Sequence[str | os.PathLike]) -> PairPredictions:
    """Read files of ``PairPredictions.write``, the chunks of one collection.

    Raises:
        InputError: when a file is not of that form, or the chunks do not fit together.
    """
    parts = [PairPredictions(**read_arrays(path, "pair predictions", _FIELDS)) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if part.maps_1.shape[1:] != parts[0].maps_1.shape[1:]:
            raise InputError(
                f"{path}: maps of {part.maps_1.shape[2:]} cells, those of {paths[0]} have {parts[0].maps_1.shape[2:]}; "
                "delete both and run again"
            )
    return joined(parts)
