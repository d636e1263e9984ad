"""What is searched for: a detail in a box of a picture, or a whole picture."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segswap.errors import InputError
from segswap.geometry import STRIDE
from segswap.images import UnreadableImage, decode_image, resize
from segswap.matching.crops import Box, box_inside, cut_query, query_cells, query_crop

QUERY_SIZE = 64
"""Length of a box's longer side in its crop, in pixels: that of the published protocol of details."""


@dataclasses.dataclass(frozen=True)
class _CropSettings:
    image_size: int
    query_size: int
    protocol: str = "corrected"


@dataclasses.dataclass(frozen=True)
class Query:
    """A query, ready for the backbone.

    Attributes:
        name: of the picture.
        image: the picture, RGB uint8 (H, W, 3).
        box: of the detail, in its pixels, cut at its border; None: the whole picture.
        crop: what the backbone sees, RGB uint8 (side, side, 3): the box and what surrounds it.
        region: what of the picture the crop shows, in its pixels.
        crop_box: the box in the crop, in the crop's pixels.
        cells: [x1, x2) x [y1, y2) of the crop that count.
        file: size in bytes and SHA-256 of the picture's file, by which a copy is known; None for bare pixels.
    """

    name: str
    image: np.ndarray
    box: Box | None
    crop: np.ndarray
    region: Box
    crop_box: tuple[int, int, int, int]
    cells: tuple[int, int, int, int]
    file: tuple[int, str] | None


def parse_box(text: str) -> Box:
    """Return the box of ``x1,y1,x2,y2``.

    Raises:
        InputError: when these are not four numbers, or the box has no area.
    """
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"box {text!r}: expected four numbers x1,y1,x2,y2 in pixels: left, top, right and bottom edge"
        ) from None
    return x1, y1, x2, y2


def read_query(
    source: str | os.PathLike | bytes | np.ndarray, box: Sequence[float] | None, side: int, name: str | None = None
) -> Query:
    """Read a query.

    Args:
        source: a picture file, the bytes of one, or its pixels, RGB uint8 (H, W, 3).
        box: x1, y1, x2, y2 of the detail in pixels of the picture; None: the whole picture.
        side: of the crop in pixels, a multiple of 16.
        name: of the picture; None: that of the file.

    Raises:
        InputError: when the picture does not open, or the box has no area or lies outside of it by more than half.
    """
    data = None
    if isinstance(source, np.ndarray):
        name, image = name or "query", source
    else:
        data = source if isinstance(source, bytes) else _bytes(Path(source))
        name = name or ("query" if isinstance(source, bytes) else Path(source).name)
        where = name if isinstance(source, bytes) else source
        try:
            image = decode_image(data)
        except UnreadableImage as error:
            raise UnreadableImage(f"{where}: {error}; expected a picture") from None
    file = None if data is None else (len(data), hashlib.sha256(data).hexdigest())
    height, width = image.shape[:2]
    if box is None:
        whole = (0.0, 0.0, float(width), float(height))
        cells = side // STRIDE
        return Query(
            name, image, None, resize(image, (side, side)), whole, (0, 0, side, side), (0, 0, cells, cells), file
        )
    box = _checked(box, (width, height), name)
    plan = query_crop((width, height), box, _CropSettings(side, min(QUERY_SIZE, side)))
    scale = np.tile(np.array([width, height]) / plan.resized, 2)
    region = tuple((np.array(plan.crop) * scale).tolist())
    cells = query_cells(plan.box, side // STRIDE)
    return Query(name, image, box, cut_query(image, plan, side), region, plan.box, cells, file)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be opened ({error.strerror}); expected a picture") from None


def _checked(box: Sequence[float], size: tuple[int, int], name: str) -> Box:
    shown = ",".join(f"{value:g}" for value in box)
    if len(box) != 4 or not np.isfinite(box).all():
        raise InputError(f"box {shown}: expected four numbers x1,y1,x2,y2 in pixels")
    if not (box[0] < box[2] and box[1] < box[3]):
        raise InputError(
            f"box {shown} has no area; expected x1,y1,x2,y2: left, top, right and bottom edge, the last two larger"
        )
    inside = box_inside(box, size)
    if inside is None:
        raise InputError(
            f"box {shown} lies outside of {name}, which has {size[0]} x {size[1]} pixels; expected x1,y1,x2,y2 in "
            "pixels of that picture as it is shown (after its EXIF rotation)"
        )
    return inside
