"""What is searched for: a detail in a box of a picture, or a whole picture."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segswap.errors import InputError
from segswap.images import UnreadableImage, decode_image
from segswap.matching.crops import Box, box_inside

LEAST = 16
"""Length in pixels that the longer side of a box must have: that of one cell."""


@dataclasses.dataclass(frozen=True)
class Query:
    """A query: a picture, or a detail of one.

    Attributes:
        name: of the picture.
        image: the picture, RGB uint8 (H, W, 3).
        box: of the detail, in its pixels, cut at its border; None: the whole picture.
        file: size in bytes and SHA-256 of the picture's file, by which a copy is known; None for bare pixels.
    """

    name: str
    image: np.ndarray
    box: Box | None
    file: tuple[int, str] | None

    @property
    def region(self) -> tuple[int, int, int, int]:
        """The part x1, y1, x2, y2 of the picture that is looked for, in whole pixels."""
        height, width = self.image.shape[:2]
        if self.box is None:
            return 0, 0, width, height
        x1, y1, x2, y2 = self.box
        return math.floor(x1), math.floor(y1), min(width, math.ceil(x2)), min(height, math.ceil(y2))

    @property
    def detail(self) -> np.ndarray:
        """What is looked for, RGB uint8 (h, w, 3): what surrounds a box is elsewhere something else."""
        x1, y1, x2, y2 = self.region
        return self.image[y1:y2, x1:x2]


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
    source: str | os.PathLike | bytes | np.ndarray, box: Sequence[float] | None, name: str | None = None
) -> Query:
    """Read a query.

    Args:
        source: a picture file, the bytes of one, or its pixels, RGB uint8 (H, W, 3).
        box: x1, y1, x2, y2 of the detail in pixels of the picture; None: the whole picture.
        name: of the picture; None: that of the file.

    Raises:
        InputError: when the picture does not open, or the box has no area, is smaller than a cell, or lies outside of
            the picture by more than half.
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
    checked = None if box is None else _checked(box, image.shape[1::-1], name)
    return Query(name, image, checked, file)


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
    longer = max(box[2] - box[0], box[3] - box[1])
    if longer < LEAST:
        raise InputError(
            f"box {shown} is {longer:g} pixels long; the smallest thing that can be recognised is a cell of {LEAST} "
            "pixels. Draw a larger box, or give a larger picture of the same"
        )
    inside = box_inside(box, size)
    if inside is None:
        raise InputError(
            f"box {shown} lies outside of {name}, which has {size[0]} x {size[1]} pixels; expected x1,y1,x2,y2 in "
            "pixels of that picture as it is shown (after its EXIF rotation)"
        )
    return inside
