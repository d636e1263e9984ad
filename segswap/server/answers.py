"""What the server answers, as plain values for JSON; ``segswap.server.app`` describes them for those who ask."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from segswap.drawing import correspondence_lines, data_uri, spread_cells
from segswap.matching.match import Match
from segswap.report.svg import mask_contours

LINES = 24
"""Correspondences shown of a match."""

_CONTOUR_SIDE = 400
"""Longer side in pixels of the picture on which contours are followed; they are given as shares of it."""


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def mask_answer(mask: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Return a mask, float (h, w) in [0, 1], over a picture of ``size`` = (width, height)."""
    shown = np.rint(np.asarray(size) * _CONTOUR_SIDE / max(size)).astype(int).clip(1)
    grey = np.rint(np.clip(mask, 0, 1) * 255).astype(np.uint8)
    return {
        "columns": mask.shape[1],
        "rows": mask.shape[0],
        "share": round(float((mask > 0.5).mean()), 4),
        "png": data_uri(cv2.imencode(".png", grey)[1].tobytes(), "image/png"),
        "contours": [[_rounded(corner) for corner in corners / shown] for corners in mask_contours(mask, *shown)],
    }


def match_answer(match: Match, size_a: tuple[int, int], size_b: tuple[int, int]) -> dict[str, Any]:
    """Return a match of two pictures of these sizes, (width, height)."""
    lines = correspondence_lines(spread_cells(match.masks[0], LINES), match.positions[0])
    return {
        "score": round(match.score, 4),
        "directed": _rounded(np.array(match.directed)),
        "turn": {"rotation": match.turn.rotation, "mirrored": match.turn.mirrored},
        "masks": [mask_answer(mask, size) for mask, size in zip(match.masks, (size_a, size_b), strict=True)],
        "correspondences": [
            {"a": _rounded(start), "b": _rounded(end), "colour": "#" + bytes(colour).hex()}
            for start, end, colour in lines
        ],
    }
