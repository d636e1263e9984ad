"""Masks of annotations: COCO's polygons and run lengths, looked at before they are decoded."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

MAX_OUTLINE = 2_000_000
"""Longest outline in pixels, and how far from the photo's corner it may reach: rasterising takes 50 bytes a pixel."""


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode a COCO segmentation to a mask, uint8 (height, width) of 0 and 1.

    Polygon parts are joined; what of them lies outside the photo is cut off.

    Raises:
        ValueError: when it is neither polygons of at least three points nor a run-length encoding of this
            size, or when no pixel is set.
    """
    if isinstance(segmentation, list):
        mask = _decode_polygons(segmentation, height, width)
    elif isinstance(segmentation, dict) and "counts" in segmentation and "size" in segmentation:
        if segmentation["size"] != [height, width]:
            size = reprlib.repr(segmentation["size"])
            raise ValueError(f"run-length encoding of size {size}, image of {[height, width]}")
        mask = _decode_run_lengths(segmentation["counts"], height, width)
    else:
        raise ValueError("segmentation is neither a list of polygons nor a run-length encoding")
    if not mask.any():
        raise ValueError("mask has no pixel")
    return mask


def encode_segmentation(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask, uint8 (H, W) of 0 and 1, as COCO's compressed run lengths, in the form that JSON can hold."""
    encoded = coco_mask.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def _decode_polygons(parts: list[Any], height: int, width: int) -> np.ndarray:
    """Return the mask of joined polygons: the rasterising is pycocotools', which does not look at what it is given."""
    if not parts or not all(isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 for part in parts):
        raise ValueError("polygon parts need at least three (x, y) points")
    length = 0.0
    for part in parts:
        if not set(map(type, part)) <= {int, float}:
            raise ValueError("polygon parts need numbers")
        try:
            points = np.array(part, float).reshape(-1, 2)
        except OverflowError:
            raise ValueError("coordinate beyond any number of 64 bits") from None
        far = points[~(np.abs(points) <= MAX_OUTLINE)]  # with NaN, which compares to nothing
        if len(far):
            raise ValueError(f"coordinate {far[0]:g} is no place in or near a photo of {width} x {height} pixels")
        length += float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
    if length > MAX_OUTLINE:
        raise ValueError(f"an outline of {length:.0f} pixels; expected {MAX_OUTLINE} at most")
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, height, width)))


def _decode_run_lengths(counts: Any, height: int, width: int) -> np.ndarray:
    """Return the mask of run lengths, a list of numbers or COCO's text; runs go down the columns, zeros first.

    pycocotools sets pixels as the lengths say: beyond the mask, or not all of it, where they do not fill it exactly.
    """
    lengths = _uncompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not set(map(type, lengths)) <= {int}:
        raise ValueError("run lengths are neither text nor a list of whole numbers")
    if min(lengths, default=0) < 0:
        raise ValueError(f"run length {reprlib.repr(min(lengths))}; expected none below 0")
    if sum(lengths) != height * width:
        raise ValueError(f"run lengths sum to {reprlib.repr(sum(lengths))}, not to {height * width}")
    runs = np.resize(np.array([0, 1], np.uint8), len(lengths))
    return np.repeat(runs, lengths).reshape(width, height).T


def _uncompressed(text: str) -> list[int]:
    """Return the run lengths that COCO's text stands for.

    A number is five bits a character from the lowest on, the sixth says that more follow, and the highest bit of the
    last is the sign. From the fourth number on each is the difference to the last but one.

    Raises:
        ValueError: for another text.
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63:
        raise ValueError("run lengths with characters that COCO's encoding does not have")
    last = codes < 32
    if not last[-1]:
        raise ValueError("run lengths that end within a number")
    starts = np.flatnonzero(np.append(True, last[:-1]))
    digits = np.diff(np.append(starts, len(codes)))
    if digits.max() > 7:
        raise ValueError("a run length of more than 32 bits")
    place = np.arange(len(codes)) - np.repeat(starts, digits)
    numbers = np.add.reduceat((codes & 31) << 5 * place, starts)
    numbers -= ((codes[last] & 16) != 0) * (np.int64(1) << 5 * digits)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers.tolist()
