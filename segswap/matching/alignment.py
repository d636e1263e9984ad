"""Laying two pictures over each other: the correspondences of a match in pixels, and the similarity that most agree on.

A similarity (shift, rotation, one scale, mirrored where the match was) never shears a picture, whatever the noise of
its cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from segswap.drawing import Colour, coloured_lines, spread_cells
from segswap.geometry import cell_centres, scale_matrix, shift_matrix, transform, warp_image
from segswap.images import resize
from segswap.matching.match import Match

_LEAST = 8
"""Correspondences that must agree, and more than a quarter of all: fewer do so by chance."""

_MOST_SCALED = 16
"""Times that a cell may be smaller in the other picture: a similarity that makes more of them one has found nothing."""

_MARGIN = 0.15
"""What is shown around the shared region, as a share of its longer side."""

_BEHIND = 128
"""Grey level where a picture ends."""

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the second picture lies on the first.

    Attributes:
        matrix: 3 x 3, pixels of the second picture to pixels of the first; None when too few correspondences agree.
        box: (x1, y1, x2, y2) in whole pixels of the first picture, the shared region with a margin; None likewise.
        count: correspondences. agreeing: those that the similarity maps to within a cell.
    """

    matrix: np.ndarray | None
    box: tuple[int, int, int, int] | None
    count: int
    agreeing: int

    def __str__(self) -> str:
        if self.matrix is not None:
            return f"{self.agreeing} of {self.count} correspondences agree"
        if self.count < _LEAST:
            return f"{self.count or 'no'} cells correspond, too few to lay one picture over the other"
        agreeing = f"only {self.agreeing} of {self.count} correspondences agree on one place"
        return f"{agreeing}, too few to lay one picture over the other"


def correspondences(match: Match, size_a: Size, size_b: Size) -> np.ndarray:
    """Return what corresponds: the cells of both pictures whose joint mask is above 0.5, those of the first one first.

    Args:
        size_a, size_b: (width, height) of the pictures in pixels.

    Returns:
        float64 (n, 5): x and y in the first picture, x and y in the second one, in pixels, and the mask.
    """
    rows = []
    for number, (mask, position) in enumerate(zip(match.masks, match.positions, strict=True)):
        shown = mask > 0.5
        ends = [cell_centres(mask.shape)[:, shown].T, position[:, shown].T]
        first, second = reversed(ends) if number else ends
        rows.append(np.column_stack([first * size_a, second * size_b, mask[shown]]))
    return np.concatenate(rows).astype(float)


def match_lines(match: Match, count: int) -> list[tuple[np.ndarray, np.ndarray, Colour]]:
    """Return lines between cells that correspond, spread over the shared part of the picture that has more of it.

    Returns:
        up to ``count`` of: normalised (x, y) in the first picture, in the second one, colour.
    """
    side = int((match.masks[1] > 0.5).sum() > (match.masks[0] > 0.5).sum())
    cells = spread_cells(match.masks[side], count)
    here = cell_centres(match.masks[side].shape)[:, cells[:, 0], cells[:, 1]].T
    there = np.asarray(match.positions[side], float)[:, cells[:, 0], cells[:, 1]].T
    return coloured_lines(there, here) if side else coloured_lines(here, there)


def align(match: Match, size_a: Size, size_b: Size) -> Alignment:
    """Find the similarity that most correspondences of a match agree on (RANSAC, then least squares).

    A correspondence agrees when it is off by less than a cell of the picture in which the shared part is smaller:
    there a cell means most.

    Args:
        size_a, size_b: (width, height) of the pictures in pixels.
    """
    points = correspondences(match, size_a, size_b)
    if len(points) < _LEAST:
        return Alignment(None, None, len(points), 0)
    mirror = np.diag([-1.0, 1, 1]) @ shift_matrix(-size_b[0], 0) if match.turn.mirrored else np.eye(3)
    a, b = np.ascontiguousarray(points[:, :2]), transform(mirror, points[:, 2:4])
    counts = [(mask > 0.5).sum() for mask in match.masks]
    into_a = counts[0] <= counts[1]
    cells = [
        max(size[0] / mask.shape[1], size[1] / mask.shape[0])
        for mask, size in zip(match.masks, (size_a, size_b), strict=True)
    ]
    source, target = (b, a) if into_a else (a, b)
    cell_source, cell_target = reversed(cells) if into_a else cells
    found, agreeing = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=cell_target)
    kept = np.zeros(len(points), bool) if found is None else agreeing[:, 0] > 0
    if kept.any() and np.hypot(*found[:, 0]) * cell_source / cell_target < 1 / _MOST_SCALED:
        kept[:] = False  # all onto one cell
    if kept.sum() < max(_LEAST, len(points) / 4):
        return Alignment(None, None, len(points), int(kept.sum()))
    matrix = np.vstack([found, [0, 0, 1]])
    matrix = (matrix if into_a else np.linalg.inv(matrix)) @ mirror
    return Alignment(matrix, _shared_box(a[kept], match.masks[0].shape, size_a), len(points), int(kept.sum()))


def _shared_box(points: np.ndarray, grid: tuple[int, int], size: Size) -> tuple[int, int, int, int]:
    """Return the box around the cells of points (n, 2) with its margin, within the picture."""
    half_cell = np.array(size) / (grid[1], grid[0]) / 2
    low, high = points.min(0) - half_cell, points.max(0) + half_cell
    margin = _MARGIN * (high - low).max()
    low, high = np.floor(np.maximum(low - margin, 0)), np.ceil(np.minimum(high + margin, size))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def aligned_views(a: np.ndarray, b: np.ndarray, alignment: Alignment, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the shared region of two pictures, the second one laid on the first; grey where a picture ends.

    Args:
        a, b: RGB uint8 (H, W, 3).
        alignment: with a matrix.
        longest: longer side of both results in pixels.

    Returns:
        two pictures of one size, RGB uint8.
    """
    x1, y1, x2, y2 = alignment.box
    scale = longest / max(x2 - x1, y2 - y1)
    size = max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))
    onto = scale_matrix(size[0] / (x2 - x1), size[1] / (y2 - y1)) @ shift_matrix(-x1, -y1)
    return _view(a, onto, size), _view(b, onto @ alignment.matrix, size)


def _view(picture: np.ndarray, matrix: np.ndarray, size: Size) -> np.ndarray:
    """Warp a picture of any size by a matrix; only what is seen of it is touched, and shrunk by area first."""
    canvas = np.array([[0, 0], [size[0], 0], [0, size[1]], size], float)
    corners = transform(np.linalg.inv(matrix), canvas)
    extent = np.array([picture.shape[1], picture.shape[0]])
    low = np.clip(np.floor(corners.min(0)) - 2, 0, extent - 1).astype(int)
    high = np.clip(np.ceil(corners.max(0)) + 2, low + 1, extent).astype(int)
    part = picture[low[1] : high[1], low[0] : high[0]]
    scale = min(1.0, float(np.sqrt(abs(np.linalg.det(matrix[:2, :2])))))
    width, height = (max(1, round(side * scale)) for side in (part.shape[1], part.shape[0]))
    matrix = matrix @ shift_matrix(*low) @ scale_matrix(part.shape[1] / width, part.shape[0] / height)
    small = resize(part, (width, height)).astype(np.float32)
    warped = warp_image(np.dstack([small, np.ones((height, width), np.float32)]), matrix, size, cv2.BORDER_CONSTANT)
    return np.rint(warped[..., :3] + _BEHIND * (1 - warped[..., 3:])).astype(np.uint8)
