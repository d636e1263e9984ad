"""Pictures of a page as inline SVG: photos embedded once and used again, masks and correspondences as vectors.

A ``<use>`` element shows a picture that stands elsewhere in the same document, so four views of a pair cost four
photos and not eight; lines and contours stay sharp at any size and can be hidden by a style sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from segswap.drawing import CYAN, Colour, data_uri, fit
from segswap.images import encode_jpeg, resize

_DRAWN = 4
"""Points of the drawing for each pixel of a photo, on which contours are followed."""


def svg(width: float, height: float, label: str, body: str) -> str:
    """Return an ``<svg>`` element of a size in pixels that screen readers call ``label``."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(label)}">{body}</svg>'
    )


def embedded(picture: np.ndarray, identity: str, quality: int) -> str:
    """Return a picture, RGB uint8 (H, W, 3), as an ``<image>`` element that ``used`` can show again."""
    height, width = picture.shape[:2]
    uri = data_uri(encode_jpeg(picture, quality), "image/jpeg")
    return f'<image id="{escape(identity)}" href="{uri}" width="{width}" height="{height}"/>'


class EmbeddedPictures:
    """The pictures of a page, each embedded once, small, and shown again by reference (``used``)."""

    def __init__(self, longest: int, quality: int) -> None:
        """Start with none; ``longest`` is the longer side of an embedded picture in pixels, ``quality`` JPEG's."""
        self._longest, self._quality = longest, quality
        self._sizes: dict[str, tuple[int, int]] = {}
        self._elements: list[str] = []

    def __contains__(self, identity: str) -> bool:
        return identity in self._sizes

    def add(self, identity: str, picture: np.ndarray) -> tuple[int, int]:
        """Embed a picture, RGB uint8 (H, W, 3), under an id; return its shown (width, height)."""
        small = fit(picture, self._longest)
        self._sizes[identity] = small.shape[1::-1]
        self._elements.append(embedded(small, identity, self._quality))
        return self._sizes[identity]

    def size(self, identity: str) -> tuple[int, int]:
        """Return the shown (width, height) of a picture that is embedded."""
        return self._sizes[identity]

    def definitions(self) -> str:
        """Return the element that holds the pictures, itself invisible and without room of its own."""
        elements = "".join(self._elements)
        return f'<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs>{elements}</defs></svg>'


def used(identity: str, x: float = 0) -> str:
    """Return an element that shows what has an id, moved to the right by ``x`` pixels."""
    return f'<use href="#{escape(identity)}" x="{x:g}"/>'


def mask_contours(mask: np.ndarray, width: int, height: int) -> list[np.ndarray]:
    """Return the contours at 0.5 of a mask, float (h, w) in [0, 1], over a picture of that size.

    Returns:
        float (n, 2) each: x and y of the corners, in pixels of the picture.
    """
    fine = resize(np.asarray(mask, np.float32), (width * _DRAWN, height * _DRAWN)) > 0.5
    contours, _ = cv2.findContours(fine.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [(cv2.approxPolyDP(contour, 1, closed=True)[:, 0] + 0.5) / _DRAWN for contour in contours]


def mask_tint(mask: np.ndarray, width: int, height: int, opacity: float = 0.5) -> str:
    """Return a mask, float (h, w) in [0, 1], as a tint with its contour at 0.5, over a picture of that size."""
    soft = np.clip(mask, 0, 1)
    rgba = np.empty((*mask.shape, 4), np.uint8)
    rgba[..., :3] = CYAN[::-1]
    rgba[..., 3] = np.rint(soft * opacity * 255)
    uri = data_uri(cv2.imencode(".png", rgba)[1].tobytes(), "image/png")
    path = "".join(
        "M" + "L".join(f"{x:.4g} {y:.4g}" for x, y in corners) + "Z" for corners in mask_contours(soft, width, height)
    )
    return (
        f'<image href="{uri}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
        f'<path class="contour" d="{path}"/>'
    )


def lines(
    identity: str,
    correspondences: Sequence[tuple[np.ndarray, np.ndarray, Colour]],
    size_a: tuple[int, int],
    size_b: tuple[int, int],
    gap: int,
) -> str:
    """Return lines from places in picture a to places in picture b, ``gap`` pixels to its right.

    Args:
        identity: id of the group, for ``used``.
        correspondences: of ``segswap.drawing.correspondence_lines`` or ``coloured_lines``.
        size_a, size_b: (width, height) of the pictures in pixels.
        gap: pixels between the pictures.
    """
    parts = []
    for start, end, colour in correspondences:
        (x1, y1), (x2, y2) = start * size_a, end * size_b + (size_a[0] + gap, 0)
        shade = "#" + bytes(colour).hex()
        parts.append(
            f'<path stroke="{shade}" d="M{x1:.4g} {y1:.4g}L{x2:.4g} {y2:.4g}"/>'
            f'<circle cx="{x1:.4g}" cy="{y1:.4g}" r="3.5" fill="{shade}"/>'
            f'<circle cx="{x2:.4g}" cy="{y2:.4g}" r="3.5" fill="{shade}"/>'
        )
    return f'<g id="{escape(identity)}" class="lines">{"".join(parts)}</g>'
