"""Drawing on pictures: masks, boxes, correspondences, frames, captions and contact sheets.

All pictures are RGB uint8 (H, W, 3). Every function returns a new picture and leaves its inputs as they are.
Positions and masks are those of ``segswap.geometry``: normalised (x, y), masks of cells or of pixels.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segswap.files import write_bytes
from segswap.geometry import cell_centres, inside
from segswap.images import encode_jpeg, resize

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
INK: Colour = (31, 41, 55)
GREY: Colour = (156, 163, 175)
GREEN: Colour = (22, 163, 74)
RED: Colour = (220, 38, 38)
ORANGE: Colour = (255, 140, 0)
CYAN: Colour = (0, 190, 220)

_SHIFT = 4
"""Fractional bits of OpenCV's drawing coordinates: positions are exact to a sixteenth of a pixel."""


def evenly_spread(total: int, count: int) -> list[int]:
    """Choose what to show of a long list: up to ``count`` positions of 0 to ``total - 1``, both ends included."""
    return sorted({round(position) for position in np.linspace(0, total - 1, min(count, total))})


def fit(image: np.ndarray, longest: int) -> np.ndarray:
    """Resize a picture so that its longer side has ``longest`` pixels, the aspect kept."""
    scale = longest / max(image.shape[:2])
    return resize(image, (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))))


def fit_height(image: np.ndarray, height: int) -> np.ndarray:
    """Resize a picture to a height in pixels, the aspect kept."""
    return resize(image, (max(1, round(image.shape[1] * height / image.shape[0])), height))


def overlay_mask(image: np.ndarray, mask: np.ndarray, colour: Colour = ORANGE, opacity: float = 0.55) -> np.ndarray:
    """Tint a picture where a soft mask is high and draw the mask's contour at 0.5.

    Args:
        image: RGB uint8 (H, W, 3).
        mask: float or bool (h, w) in [0, 1], cells or pixels; up-sampled bilinearly.
        colour: of tint and contour.
        opacity: of the tint where the mask is 1.
    """
    soft = _pixels(mask, image)
    weight = opacity * soft[..., None]
    tinted = np.rint(image * (1 - weight) + np.array(colour, np.float32) * weight).astype(np.uint8)
    return draw_outline(tinted, soft > 0.5, colour, _contour_width(image))


def spotlight(image: np.ndarray, mask: np.ndarray, colour: Colour = ORANGE, strength: float = 0.75) -> np.ndarray:
    """Fade a picture to pale grey where a soft mask is low and draw the mask's contour at 0.5.

    Args:
        image: RGB uint8 (H, W, 3).
        mask: float or bool (h, w) in [0, 1], cells or pixels; up-sampled bilinearly.
        colour: of the contour.
        strength: of the fading where the mask is 0.
    """
    soft = _pixels(mask, image)
    pale = 128 + cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None] / 2
    weight = strength * (1 - soft[..., None])
    faded = np.rint(image * (1 - weight) + pale * weight).astype(np.uint8)
    return draw_outline(faded, soft > 0.5, colour, _contour_width(image))


def _pixels(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Bring a mask to the pixels of a picture, float32 (H, W) in [0, 1]."""
    return np.clip(resize(np.asarray(mask, np.float32), (image.shape[1], image.shape[0])), 0, 1)


def _contour_width(image: np.ndarray) -> int:
    return max(1, round(max(image.shape[:2]) / 160))


def draw_outline(image: np.ndarray, mask: np.ndarray, colour: Colour, thickness: int = 2) -> np.ndarray:
    """Draw the contours, holes included, of a mask, bool (H, W), of the picture's own size."""
    drawn = np.ascontiguousarray(image).copy()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(drawn, contours, -1, colour, thickness, cv2.LINE_AA)
    return drawn


def draw_boxes(
    image: np.ndarray, boxes: Sequence[Sequence[float]], colour: Colour, thickness: int = 2, halo: bool = True
) -> np.ndarray:
    """Draw boxes (x1, y1, x2, y2), in pixels of the picture, a dark halo under them so that they show anywhere."""
    drawn = np.ascontiguousarray(image).copy()
    for box in boxes:
        low, high = (tuple(round((v - 0.5) * 2**_SHIFT) for v in corner) for corner in (box[:2], box[2:]))
        if halo:
            cv2.rectangle(drawn, low, high, INK, thickness + 2, cv2.LINE_AA, _SHIFT)
        cv2.rectangle(drawn, low, high, colour, thickness, cv2.LINE_AA, _SHIFT)
    return drawn


def frame(image: np.ndarray, colour: Colour, width: int = 4) -> np.ndarray:
    """Put a frame of ``width`` pixels around a picture: it grows by that on each side."""
    return cv2.copyMakeBorder(image, width, width, width, width, cv2.BORDER_CONSTANT, value=colour)


def right_or_wrong(image: np.ndarray, right: bool, width: int = 4) -> np.ndarray:
    """Put a green frame around a right answer, a red one around a wrong one."""
    return frame(image, GREEN if right else RED, width)


def spread_cells(mask: np.ndarray, count: int) -> np.ndarray:
    """Choose cells spread over a mask: each is the one farthest from those chosen before.

    Args:
        mask: float (h, w); cells above 0.5 can be chosen. The first is the one nearest to their middle.
        count: number of cells; fewer are returned when the mask has fewer.

    Returns:
        int64 (n, 2), row and column.
    """
    cells = np.argwhere(np.asarray(mask) > 0.5)
    if not len(cells) or count < 1:
        return cells[:0]
    chosen = [int(np.square(cells - cells.mean(0)).sum(1).argmin())]
    distance = np.square(cells - cells[chosen[0]]).sum(1)
    while len(chosen) < min(count, len(cells)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.square(cells - cells[chosen[-1]]).sum(1))
    return cells[chosen]


def rainbow(values: np.ndarray) -> list[Colour]:
    """Return a colour of the rainbow for each value in [0, 1]."""
    if not len(values):
        return []
    hue = np.rint(np.clip(np.asarray(values, float), 0, 1) * 150).astype(np.uint8)
    hsv = np.stack([hue, np.full_like(hue, 255), np.full_like(hue, 255)], axis=-1)[None]
    return [tuple(int(v) for v in colour) for colour in cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]]


def draw_correspondences(
    a: np.ndarray,
    b: np.ndarray,
    cells: np.ndarray,
    corr: np.ndarray,
    colours: Sequence[Colour] | None = None,
    gap: int = 8,
) -> np.ndarray:
    """Put two pictures of one height side by side and draw lines from cells of a to their places in b.

    Args:
        a, b: RGB uint8 (H, W_a, 3) and (H, W_b, 3).
        cells: int (n, 2), row and column, for example of ``spread_cells``.
        corr: float (2, h, w), a's correspondence map; lines that leave b are not drawn.
        colours: one per cell; None for a rainbow by position along the diagonal of a.
        gap: pixels between the pictures.

    Returns:
        RGB uint8 (H, W_a + gap + W_b, 3). A line starts at (x * W_a, y * H) and ends at
        (W_a + gap + x' * W_b, y' * H).
    """
    return draw_lines(a, b, correspondence_lines(cells, corr, colours), gap)


def draw_lines(
    a: np.ndarray,
    b: np.ndarray,
    lines: Sequence[tuple[np.ndarray, np.ndarray, Colour]],
    gap: int = 8,
    radius: int | None = None,
) -> np.ndarray:
    """Put two pictures of one height side by side and draw lines between them, as ``draw_correspondences`` does.

    Args:
        a, b: RGB uint8 (H, W_a, 3) and (H, W_b, 3).
        lines: of ``correspondence_lines`` or ``coloured_lines``.
        gap: pixels between the pictures.
        radius: of the dots at the lines' ends in pixels; None for one that suits the height.
    """
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"pictures of {a.shape[0]} and {b.shape[0]} rows side by side: expected one height")
    joined = contact_sheet([[a, b]], gap=gap, margin=0)
    height, width_a, width_b = a.shape[0], a.shape[1], b.shape[1]
    radius = radius or max(3, round(height / 50))
    for start, end, colour in lines:
        _line(joined, start * (width_a, height), end * (width_b, height) + (width_a + gap, 0), colour, radius)
    return joined


def correspondence_lines(
    cells: np.ndarray, corr: np.ndarray, colours: Sequence[Colour] | None = None
) -> list[tuple[np.ndarray, np.ndarray, Colour]]:
    """Return the lines from cells of a to their places in b: normalised (x, y) in a, in b, and the colour.

    Arguments as in ``draw_correspondences``.
    """
    starts = cell_centres(corr.shape[1:])[:, cells[:, 0], cells[:, 1]]
    ends = np.asarray(corr, float)[:, cells[:, 0], cells[:, 1]]
    lines = coloured_lines(starts.T, ends.T, colours)
    return [line for line, shown in zip(lines, inside(ends), strict=True) if shown]


def coloured_lines(
    starts: np.ndarray, ends: np.ndarray, colours: Sequence[Colour] | None = None
) -> list[tuple[np.ndarray, np.ndarray, Colour]]:
    """Return lines from places in a to places in b, normalised (x, y), float (n, 2) each, with their colours.

    Without ``colours`` a rainbow by position along the diagonal of a.
    """
    colours = rainbow(_stretched(starts.sum(1))) if colours is None else colours
    return [
        (start, end, tuple(int(v) for v in colour)) for start, end, colour in zip(starts, ends, colours, strict=True)
    ]


def _stretched(values: np.ndarray) -> np.ndarray:
    """Stretch values to the whole of [0, 1]."""
    if not len(values) or np.ptp(values) == 0:
        return np.zeros_like(values)
    return (values - values.min()) / np.ptp(values)


def _line(picture: np.ndarray, first: np.ndarray, last: np.ndarray, colour: Colour, radius: int) -> None:
    """Draw a line with dotted, dark-rimmed ends into ``picture``; positions have their origin at its corner."""
    ends = [tuple(round((float(v) - 0.5) * 2**_SHIFT) for v in point) for point in (first, last)]
    cv2.line(picture, *ends, colour, max(1, radius // 2), cv2.LINE_AA, _SHIFT)
    for end in ends:
        cv2.circle(picture, end, (radius + 1) << _SHIFT, INK, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(picture, end, radius << _SHIFT, colour, -1, cv2.LINE_AA, _SHIFT)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Cut the middle out of a text that is wider than ``width`` pixels: names differ at their ends."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = text[: (kept + 1) // 2] + "..." + text[len(text) - kept // 2 :]
        if font.getlength(short) <= width:
            return short
    return ""


def text_picture(text: str, width: int, size: int = 13, colour: Colour = INK, height: int | None = None) -> np.ndarray:
    """Return a white picture with text, a line for each line of ``text``; lines too long are shortened.

    Args:
        text: plain text.
        width: of the picture, in pixels.
        size: of the letters, in pixels.
        colour: of the letters.
        height: of the picture, the text in its middle; None for as much as the text needs.
    """
    font = _font(size)
    lines = text.split("\n")
    step = round(size * 1.35)
    needed = step * len(lines) + round(size * 0.3)
    picture = Image.new("RGB", (width, height or needed), WHITE)
    pen = ImageDraw.Draw(picture)
    top = max(0, (picture.height - needed) // 2)
    for number, line in enumerate(lines):
        pen.text((2, top + number * step), _shortened(line, font, width - 4), fill=colour, font=font)
    return np.array(picture)


def caption(image: np.ndarray, text: str, size: int = 13, colour: Colour = INK) -> np.ndarray:
    """Put text on white under a picture; see ``text_picture``."""
    return np.concatenate([image, text_picture(text, image.shape[1], size, colour)])


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray | None]],
    gap: int = 8,
    margin: int = 8,
    background: Colour = WHITE,
) -> np.ndarray:
    """Lay pictures of any sizes out in a grid; a column is as wide, a row as high, as its largest picture.

    Args:
        rows: pictures, RGB uint8, or None for an empty place; rows may differ in length.
        gap: pixels between rows and columns. margin: around the sheet.
        background: between the pictures.

    Returns:
        RGB uint8; pictures lie at the top left of their places.

    Raises:
        ValueError: when there is no picture at all.
    """
    n_columns = max(map(len, rows), default=0)
    if not any(picture is not None for row in rows for picture in row):
        raise ValueError("contact sheet without a picture")
    heights, widths = [0] * len(rows), [0] * n_columns
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            if picture is not None:
                heights[r], widths[c] = max(heights[r], picture.shape[0]), max(widths[c], picture.shape[1])
    tops = margin + np.concatenate([[0], np.cumsum(np.array(heights) + gap)])
    lefts = margin + np.concatenate([[0], np.cumsum(np.array(widths) + gap)])
    sheet = np.empty((tops[-1] - gap + margin, lefts[-1] - gap + margin, 3), np.uint8)
    sheet[:] = background
    for row, top in zip(rows, tops, strict=False):
        for picture, left in zip(row, lefts, strict=False):
            if picture is not None:
                sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def encode_picture(image: np.ndarray, suffix: str, quality: int = 85) -> bytes:
    """Encode a picture as ``.jpg``, ``.jpeg`` or ``.png``; ``quality`` is JPEG's.

    Raises:
        ValueError: for another suffix.
    """
    if suffix.lower() in (".jpg", ".jpeg"):
        return encode_jpeg(image, quality)
    if suffix.lower() == ".png":
        return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    raise ValueError(f"picture of suffix {suffix!r}: expected .jpg, .jpeg or .png")


def write_picture(path: str | os.PathLike, image: np.ndarray, quality: int = 85) -> None:
    """Write a picture as a whole file, encoded as its suffix says; see ``encode_picture``."""
    write_bytes(path, encode_picture(image, Path(path).suffix, quality))


def data_uri(data: bytes, mime: str) -> str:
    """Return the data URI of a file's bytes, ``mime`` for example ``image/jpeg``."""
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
