"""Windows: a detail of one size is slid over the cells of a picture at several sizes.

A detail must be looked for at its own size. The query is brought to ``QUERY_SIDE`` and each picture to ``SIDES``, so
a detail of any share meets its likeness at about its own scale. The score of a window is the mean cosine
over the query's cells. docs/search.md holds the experiments behind the numbers of this module.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional as F

from segswap.geometry import STRIDE
from segswap.matching.crops import Box

QUERY_SIDE = 160
"""Side in pixels of the square that is as large as a query when it is looked for: 10 x 10 cells."""

SIDES = (160, 226, 320, 453, 640, 905)
"""The same for pictures, in steps of 1.4: a detail may fill a whole picture, or a sixth of its sides."""

MAX_ENLARGED = 6
"""Factor by which pictures are enlarged at most, but for the first size; a cell is then some three of their pixels."""

MAX_PLACES = 3
"""Windows of one picture that may each be a hit."""

PLACE_SHARE = 0.7
"""Share of the best score of all pictures that a further window of a picture needs."""

_MAX_SHARED = 0.2
"""Share of the smaller of two windows that the other may cover where they show different places."""

_PEAKS = 8
"""Windows of one level that may be places."""


@dataclasses.dataclass(frozen=True)
class Window:
    """A place in a picture that looks like a query.

    Attributes:
        picture: number in the index.
        score: mean cosine over the query's cells, in [-1, 1].
        version: number of the query's version (as given, turned, mirrored) that scores so.
        box: in pixels of the picture; parts of it may lie outside.
    """

    picture: int
    score: float
    version: int
    box: Box


def fitted_size(size: tuple[int, int], side: float) -> tuple[int, int]:
    """Return (width, height), multiples of 16, of about the area of a square of ``side`` pixels, the aspect kept.

    Args:
        size: (width, height) of the picture.
    """
    scale = side / math.sqrt(size[0] * size[1])
    return tuple(max(1, round(length * scale / STRIDE)) * STRIDE for length in size)


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the sizes (width, height), in pixels, at which a picture of ``size`` is searched, smallest first."""
    own = math.sqrt(size[0] * size[1])
    sides = [side for side in SIDES if side == SIDES[0] or side <= MAX_ENLARGED * own]
    return list(dict.fromkeys(fitted_size(size, side) for side in sides))


Grid = tuple[int, int]
"""Rows and columns of cells."""


def count(grids: Sequence[Grid]) -> int:
    """Return the number of cells of some grids."""
    return sum(rows * columns for rows, columns in grids)


@dataclasses.dataclass(frozen=True)
class Levels:
    """A picture's cells at its sizes.

    Attributes:
        cells: unit vectors, one size after the other, float32 (N, K).
        grids: of the sizes.
    """

    cells: torch.Tensor
    grids: Sequence[Grid]

    def first(self, most: int) -> Levels:
        """Return the first sizes alone, at most so many."""
        grids = self.grids[:most]
        return Levels(self.cells[: count(grids)], grids)

    def maps(self) -> list[torch.Tensor]:
        """Return the cells at each size, float32 (rows, columns, K)."""
        parts = self.cells.split([rows * columns for rows, columns in self.grids])
        return [part.unflatten(0, grid) for part, grid in zip(parts, self.grids, strict=True)]


def window_scores(levels: Levels, query: torch.Tensor) -> list[torch.Tensor]:
    """Return the score of each window of a picture, for each of its sizes.

    One product of matrices gives the cosine of each query cell with each cell of the picture. The score of a window is
    a sum along a diagonal of these: views with a stride of one row, or column, more add them up without a copy. Where
    the query has more rows or columns than the picture, cells outside of the picture have a cosine of 0.

    Args:
        levels: of a picture.
        query: unit vectors of a query, float32 (h, w, K).

    Returns:
        float32 (rows, columns) each, the first window ``margins`` outside of the picture.
    """
    h, w = query.shape[:2]
    cosines = (query.flatten(0, 1) / (h * w)) @ levels.cells.T
    cells = cosines.shape[1]
    # Sums over w neighbours, for all sizes at once. Those across the end of a row mean nothing, and are not read.
    runs = max(0, cells - w + 1)
    along_x = cosines.as_strided((h, w, runs), (w * cells, cells + 1, 1)).sum(1)
    scores, start = [], 0
    for rows, columns in levels.grids:
        if rows < h or columns < w:
            scores.append(_padded_scores(cosines[:, start : start + rows * columns], (rows, columns), (h, w)))
        else:
            size, strides = (h, rows - h + 1, columns - w + 1), (runs + columns, columns, 1)
            scores.append(along_x.as_strided(size, strides, start).sum(0))
        start += rows * columns
    return scores


def _padded_scores(cosines: torch.Tensor, grid: Grid, query: Grid) -> torch.Tensor:
    """Return the scores of windows at one size, with cosines (h * w, rows * columns) of 0 around it."""
    (h, w), (top, left) = query, margins(grid, query)
    padded = F.pad(cosines.unflatten(1, grid), (left, left, top, top))
    height, width = padded.shape[1:]
    strides = (width * height * w + width, width * height + 1, width, 1)
    return padded.as_strided((h, w, height - h + 1, width - w + 1), strides).sum((0, 1))


def best_score(levels: Levels, query: torch.Tensor) -> float:
    """Return the score of a picture's best window, over all its sizes; ``best_window`` says where that is."""
    return max(float(scores.max()) for scores in window_scores(levels, query))


def margins(picture: Grid, query: Grid) -> tuple[int, int]:
    """Return by how many cells (rows, columns) windows begin outside of a picture: 0 where the query fits.

    Args:
        picture, query: their (rows, columns) of cells.
    """
    return tuple(max(0, math.ceil((own - whole) / 2)) for whole, own in zip(picture, query, strict=True))


def best_window(number: int, size: tuple[int, int], levels: Levels, versions: Sequence[torch.Tensor]) -> Window:
    """Return the best window of a picture, over all its levels and all versions of the query.

    Args:
        number: of the picture in its index. size: its (width, height) in pixels.
        levels: its cells.
        versions: cells of the query as given, turned, ..., each float32 (h, w, K), unit vectors.
    """
    best = (-math.inf, 0, 0, 0)
    for version, query in enumerate(versions):
        for level, scores in enumerate(window_scores(levels, query)):
            value, place = scores.flatten().max(0)
            best = max(best, (float(value), version, level, int(place)), key=lambda found: found[0])
    value, version, level, place = best
    return _window(number, size, levels.grids[level], versions[version], value, version, place)


def further_places(
    best: Window,
    size: tuple[int, int],
    levels: Levels,
    versions: Sequence[torch.Tensor],
    least: float,
) -> list[Window]:
    """Return windows of a picture that show other places than its best one, best first.

    Args:
        best: of ``best_window``; the other arguments are the same.
        least: score that a further window needs.
    """
    windows = [
        _window(best.picture, size, grid, query, value, version, place)
        for version, query in enumerate(versions)
        for grid, scores in zip(levels.grids, window_scores(levels, query), strict=True)
        for value, place in _peaks(scores, least)
    ]
    kept = [best]
    for window in sorted(windows, key=lambda window: -window.score):
        if len(kept) < MAX_PLACES and all(_shared(window.box, other.box) <= _MAX_SHARED for other in kept):
            kept.append(window)
    return kept[1:]


def _peaks(scores: torch.Tensor, least: float) -> Iterator[tuple[float, int]]:
    """Yield value and flat place of the best scores (rows, columns) that are higher than those around them."""
    highest = F.max_pool2d(scores[None], 3, 1, 1)[0]
    peaks = torch.where((scores == highest) & (scores >= least), scores, -torch.inf).flatten()
    values, places = peaks.topk(min(_PEAKS, len(peaks)))
    yield from ((v, p) for v, p in zip(values.tolist(), places.tolist(), strict=True) if v > -math.inf)


def _window(
    number: int,
    size: tuple[int, int],
    grid: Grid,
    query: torch.Tensor,
    value: float,
    version: int,
    place: int,
) -> Window:
    """Return the window at a flat place of the scores of a picture at one size, of ``grid`` cells."""
    (h, w), (height, width) = query.shape[:2], grid
    top, left = margins((height, width), (h, w))
    row, column = divmod(place, width + 2 * left - w + 1)
    cell_x, cell_y = size[0] / width, size[1] / height
    x, y = (column - left) * cell_x, (row - top) * cell_y
    return Window(number, value, version, (x, y, x + w * cell_x, y + h * cell_y))


def _shared(a: Box, b: Box) -> float:
    """Return the share of the smaller of two boxes that the other one covers."""
    width, height = (max(0.0, min(a[n + 2], b[n + 2]) - max(a[n], b[n])) for n in range(2))
    return width * height / min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
