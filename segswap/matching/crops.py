"""Details as queries: what is cut out around a box, and which cells of the cut are the box's (no PyTorch)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from segswap.geometry import STRIDE
from segswap.images import resize

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2: left, top, right and bottom edge."""


class CropSettings(Protocol):
    """What decides how a query is cut out; a benchmark's settings have these attributes among others.

    Attributes:
        image_size: side of the crop in pixels, a multiple of 16.
        query_size: length of the box's longer side in the crop, in pixels.
        protocol: ``corrected``, or ``published``: a box of odd side then gives a crop one pixel short.
    """

    @property
    def image_size(self) -> int: ...
    @property
    def query_size(self) -> int: ...
    @property
    def protocol(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class QueryCrop:
    """How a query is cut out: the size the whole image is resized to, the crop in it, the box in the crop."""

    resized: tuple[int, int]
    crop: tuple[int, int, int, int]
    box: tuple[int, int, int, int]


def box_inside(box: Sequence[float], size: tuple[int, int]) -> Box | None:
    """Return the part of a box that lies in an image of ``size`` = (width, height); None where it is less than half."""
    x1, y1, x2, y2 = box
    part = (max(0.0, x1), max(0.0, y1), min(float(size[0]), x2), min(float(size[1]), y2))
    area = max(0.0, part[2] - part[0]) * max(0.0, part[3] - part[1])
    return part if area >= 0.5 * (x2 - x1) * (y2 - y1) > 0 else None


def query_crop(size: tuple[int, int], box: Sequence[float], settings: CropSettings) -> QueryCrop:
    """Return the preprocessing of a query.

    The image is resized so that the box's longer side is ``query_size`` (both sides of the box rounded to
    multiples of 16, at least 16) but no side of the image is below ``image_size``; the crop of ``image_size``
    has the box in its centre and is moved inside the image where it would leave it.

    Args:
        size: (width, height) of the image.
        box: of the query, in its pixels, inside the image.
    """
    sides = np.array([box[2] - box[0], box[3] - box[1]])
    wanted = np.maximum(np.round(sides * settings.query_size / sides.max() / STRIDE), 1) * STRIDE
    resized = np.maximum(np.round(np.array(size) * wanted / sides), settings.image_size).astype(int)
    scale = resized / np.array(size)
    low, high = (np.round(np.array(corner) * scale).astype(int) for corner in (box[:2], box[2:]))
    high = np.maximum(high, low + 1)
    side = np.full(2, settings.image_size)
    margin = np.maximum((side - (high - low)) // 2, 0)
    start = low - margin
    if settings.protocol == "published":
        side = high - low + 2 * margin
    start = np.clip(start, 0, resized - side)
    crop = (*start.tolist(), *(start + side).tolist())
    return QueryCrop(tuple(resized.tolist()), crop, (*(low - start).tolist(), *(high - start).tolist()))


def cut_query(image: np.ndarray, plan: QueryCrop, side: int) -> np.ndarray:
    """Return a query's crop, RGB uint8 (side, side, 3), of its image (H, W, 3)."""
    # Only the crop is resized: resizing the whole image would cost gigabytes for a small box.
    x1, y1, x2, y2 = plan.crop
    scale = plan.resized[0] / image.shape[1], plan.resized[1] / image.shape[0]
    left, top = int(x1 / scale[0]), int(y1 / scale[1])
    right = min(image.shape[1], int(np.ceil(x2 / scale[0])) + 1)
    bottom = min(image.shape[0], int(np.ceil(y2 / scale[1])) + 1)
    part = image[top:bottom, left:right]
    part = resize(part, (max(1, round(part.shape[1] * scale[0])), max(1, round(part.shape[0] * scale[1]))))
    offset_x, offset_y = round(x1 - left * scale[0]), round(y1 - top * scale[1])
    crop = part[offset_y : offset_y + y2 - y1, offset_x : offset_x + x2 - x1]
    return resize(crop, (side, side))


def query_cells(box: Sequence[float], cells: int) -> tuple[int, int, int, int]:
    """Return the cells [x1, x2) x [y1, y2) of a box in a crop, enlarged by one cell on each side."""
    low = [max(0, round(v / STRIDE - 1)) for v in box[:2]]
    high = [min(cells, round(v / STRIDE + 1)) for v in box[2:]]
    return low[0], low[1], high[0], high[1]


def box_cells(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Return the cells [x1, x2) x [y1, y2) inside a box of a crop, at least one."""
    x1, y1 = (int(v // STRIDE) for v in box[:2])
    return x1, y1, max(x1 + 1, round(box[2] / STRIDE)), max(y1 + 1, round(box[3] / STRIDE))


def scaled_box(box: Sequence[float], size: tuple[float, float]) -> Box:
    """Return a normalised box in pixels of an image of ``size`` = (width, height)."""
    return box[0] * size[0], box[1] * size[1], box[2] * size[0], box[3] * size[1]
