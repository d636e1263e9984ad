"""What the server answers, as plain values for JSON; ``segswap.server.app`` describes them for those who ask."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import cv2
import numpy as np

from segswap.drawing import Colour, coloured_lines, correspondence_lines, data_uri, spread_cells
from segswap.matching.match import Match
from segswap.report.svg import mask_contours
from segswap.search.index import Index
from segswap.search.search import Hit, Result

LINES = 24
"""Correspondences shown of a match."""

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


def lines_answer(lines: Iterable[tuple[np.ndarray, np.ndarray, Colour]]) -> list[dict[str, Any]]:
    """Return lines of ``segswap.drawing``."""
    return [
        {"a": _rounded(start), "b": _rounded(end), "colour": "#" + bytes(colour).hex()} for start, end, colour in lines
    ]


def match_answer(match: Match, size_a: tuple[int, int], size_b: tuple[int, int]) -> dict[str, Any]:
    """Return a match of two pictures of these sizes, (width, height)."""
    lines = correspondence_lines(spread_cells(match.masks[0], LINES), match.positions[0])
    return {
        "score": round(match.score, 4),
        "directed": _rounded(match.directed),
        "turn": {"rotation": match.turn.rotation, "mirrored": match.turn.mirrored},
        "masks": [mask_answer(mask, size) for mask, size in zip(match.masks, (size_a, size_b), strict=True)],
        "lines": lines_answer(lines),
    }


def search_answer(result: Result, index: Index, hidden: Container[int]) -> dict[str, Any]:
    """Return what a search has found, without the pictures whose numbers are ``hidden``."""
    threshold = result.threshold
    return {
        "threshold": None if threshold is None else max(threshold, 0.0),
        "remark": result.remark,
        "searched": len(index),
        "compared": len(result.hits),
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
        "mask": mask_answer(hit.mask, size),
        "lines": lines_answer(coloured_lines(hit.lines[:, :2], hit.lines[:, 2:])),
    }
