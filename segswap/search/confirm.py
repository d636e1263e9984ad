"""The matcher's look at a window: at the query's scale, with what surrounds the window as a margin."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from segswap.drawing import spread_cells
from segswap.geometry import STRIDE, cell_centres
from segswap.images import resize
from segswap.matching.crops import Box
from segswap.matching.features import images_to_tensor
from segswap.matching.match import Match, Turn, match_features
from segswap.models.segswap import SegSwap
from segswap.search.windows import Window, fitted_size

MARGIN = 0.2
"""Share of a window's sides that is shown around it."""

_LINES = 16
_MAX_GRID = 128
"""Largest number of cells along a side of a mask."""


@dataclasses.dataclass(frozen=True)
class Confirmed:
    """What the matcher says of a window.

    Attributes:
        agreement: symmetric score of the pair over the query's cells, in [0, 1].
        mask: where the query lies, on the whole picture, float32 (h, w) in [0, 1].
        lines: cells that correspond, float32 (n, 4): normalised (x, y) in the query's region and in the picture.
    """

    agreement: float
    mask: np.ndarray
    lines: np.ndarray


def query_features(model: SegSwap, detail: np.ndarray, side: int, turns: tuple[Turn, ...]) -> dict[Turn, torch.Tensor]:
    """Return the features (1, C, h, w) of the versions of a query as the matcher sees it.

    Args:
        detail: RGB uint8 (H, W, 3).
        side: of the square of its area, in pixels.
    """
    fitted = resize(detail, fitted_size(detail.shape[1::-1], side))
    device = next(model.parameters()).device
    return {turn: model.features(images_to_tensor([turn.apply(fitted)], device)) for turn in turns}


def confirm(
    model: SegSwap,
    features: Mapping[Turn, torch.Tensor],
    picture: np.ndarray,
    window: Window,
    side: int,
) -> Confirmed:
    """Match a query with a window of a picture.

    Args:
        features: of the query's version, by its turn, see ``query_features``.
        picture: RGB uint8 (H, W, 3), that the window lies in.
        side: at which the query is shown, in pixels; the window is shown at that scale.
    """
    size = picture.shape[1::-1]
    region = _with_margin(window.box, size)
    x1, y1, x2, y2 = region
    scale = side / np.sqrt((window.box[2] - window.box[0]) * (window.box[3] - window.box[1]))
    shown = tuple(max(1, round(length * scale / STRIDE)) * STRIDE for length in (x2 - x1, y2 - y1))
    crop = resize(picture[y1:y2, x1:x2], shown)
    y = model.features(images_to_tensor([crop], next(model.parameters()).device))
    match = match_features(model.matcher, y, features)
    cells = match.masks[1].size
    return Confirmed(
        agreement=match.score / cells,
        mask=_on_picture(match.masks[0], region, size),
        lines=_lines(match, region, size),
    )


def _with_margin(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return a box with its margin in whole pixels, cut at the picture's border."""
    x, y = MARGIN * (box[2] - box[0]), MARGIN * (box[3] - box[1])
    x1, y1 = (min(max(0, round(v)), length - 1) for v, length in zip((box[0] - x, box[1] - y), size, strict=True))
    x2, y2 = (min(round(v), length) for v, length in zip((box[2] + x, box[3] + y), size, strict=True))
    return x1, y1, max(x1 + 1, x2), max(y1 + 1, y2)


def _on_picture(mask: np.ndarray, region: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Return a region's mask (h, w) as one of the whole picture, its cells about as large."""
    extent = np.array([region[2] - region[0], region[3] - region[1]])
    columns, rows = np.clip(np.round(np.array(size) * mask.shape[::-1] / extent), 1, _MAX_GRID).astype(int)
    centres = cell_centres((rows, columns)).reshape(2, -1).T * size
    inside = (centres - region[:2]) / extent
    place = np.floor(inside * mask.shape[::-1]).astype(int)
    within = ((place >= 0) & (place < mask.shape[::-1])).all(1)
    whole = np.zeros(rows * columns, np.float32)
    whole[within] = mask[place[within, 1], place[within, 0]]
    return whole.reshape(rows, columns)


def _lines(match: Match, region: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Return cells spread over the query's mask and where they lie in the picture, float32 (n, 4)."""
    mask = match.masks[1]
    cells = spread_cells(mask / max(float(mask.max()), 1e-6), _LINES)
    here = cell_centres(mask.shape)[:, cells[:, 0], cells[:, 1]].T
    there = match.positions[1][:, cells[:, 0], cells[:, 1]].T
    extent = np.array([region[2] - region[0], region[3] - region[1]])
    return np.concatenate([here, (there * extent + region[:2]) / size], axis=1).astype(np.float32)
