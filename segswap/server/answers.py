"""What the server answers, as plain values for JSON; ``segswap.server.app`` describes them for those who ask."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import cv2
import numpy as np

from segswap.drawing import Colour, coloured_lines, data_uri
from segswap.images import encode_jpeg
from segswap.matching.alignment import align, aligned_views, match_lines
from segswap.matching.match import Match, Turn
from segswap.report.svg import mask_contours
from segswap.search.index import Index
from segswap.search.search import Hit, Result

LINES = 24
"""Correspondences shown of a match."""

_SMALLEST_VIEW, _LARGEST_VIEW = 480, 1000
"""Longer side in pixels of pictures that are laid over each other."""

_CONTOUR_SIDE = 400
"""Longer side in pixels of the picture on which contours are followed; they are given as shares of it."""


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 4) for value in values]


def mask_answer(mask: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Return a mask, float (h, w) in [0, 1], over a picture of ``size`` = (width, height)."""
    shown = np.rint(np.asarray(size) * _CONTOUR_SIDE / max(size)).astype(int).clip(1)
    grey = np.rint(np.clip(mask, 0, 1) * 255).astype(np.uint8)
    return {
        "columns": mask.shape[1],
        "rows": mask.shape[0],
        "peak": round(float(mask.max()), 4),
        "share": round(float((mask > 0.5).mean()), 4),
        "png": data_uri(cv2.imencode(".png", grey)[1].tobytes(), "image/png"),
        "contours": [[_rounded(corner) for corner in corners / shown] for corners in mask_contours(mask, *shown)],
    }


def turn_answer(turn: Turn) -> dict[str, Any]:
    """Return how a picture was turned."""
    return {"rotation": turn.rotation, "mirrored": turn.mirrored}


def lines_answer(lines: Iterable[tuple[np.ndarray, np.ndarray, Colour]]) -> list[dict[str, Any]]:
    """Return lines of ``segswap.drawing``."""
    return [
        {"a": _rounded(start), "b": _rounded(end), "colour": "#" + bytes(colour).hex()} for start, end, colour in lines
    ]


def alignment_answer(match: Match, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Return the shared part of two pictures, the second one laid on the first; no views where that is not possible."""
    found = align(match, a.shape[1::-1], b.shape[1::-1])
    views = None
    if found.matrix is not None:
        x1, y1, x2, y2 = found.box
        longest = min(_LARGEST_VIEW, max(_SMALLEST_VIEW, x2 - x1, y2 - y1))
        views = [data_uri(encode_jpeg(view, 85), "image/jpeg") for view in aligned_views(a, b, found, longest)]
    return {"views": views, "words": str(found)}


def match_answer(match: Match, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Return a match of two pictures, RGB uint8 (H, W, 3)."""
    return {
        "score": round(match.score, 4),
        "directed": _rounded(match.directed),
        "turn": turn_answer(match.turn),
        "masks": [mask_answer(mask, image.shape[1::-1]) for mask, image in zip(match.masks, (a, b), strict=True)],
        "lines": lines_answer(match_lines(match, LINES)),
        "alignment": alignment_answer(match, a, b),
    }


def search_answer(result: Result, index: Index, hidden: Container[int]) -> dict[str, Any]:
    """Return what a search has found, without the pictures whose numbers are ``hidden``."""
    threshold = result.threshold
    return {
        "threshold": None if threshold is None else max(threshold, 0.0),
        "remark": result.remark,
        "searched": result.searched,
        "compared": result.matched,
        "left_out": list(result.left_out),
        "query": {"region": _rounded(result.query.region), "box": result.query.box and _rounded(result.query.box)},
        "hits": [hit_answer(hit, index) for hit in result.hits if hit.number not in hidden],
    }


def hit_answer(hit: Hit, index: Index) -> dict[str, Any]:
    """Return one picture that a search has found."""
    size = tuple(index.sizes[hit.number].tolist())
    return {
        "number": hit.number,
        "name": hit.image,
        "width": size[0],
        "height": size[1],
        "score": round(hit.score, 4),
        "p_value": hit.p_value,
        "above": hit.above,
        "box": _rounded(hit.box),
        "turn": turn_answer(hit.turn),
        "mask": None if hit.mask is None else mask_answer(hit.mask, size),
        "lines": lines_answer(coloured_lines(hit.lines[:, :2], hit.lines[:, 2:])),
    }
