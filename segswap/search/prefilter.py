"""Which pictures of a folder are worth matching with a query: those in which its parts look alike.

A detail is small, so that whole pictures hardly look alike by it, and one vector for the detail says too little. So
pictures and queries are cut into windows that overlap by half, and the cells of each are pooled to one vector. A
picture is as alike as, on average over the query's windows, its window most alike. The search is exact and reads the
vectors of all pictures once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from segswap.matching.pooling import pool, window_slices

WINDOWS = 8
"""Windows along each side of a picture, and at most of a query's box."""

_SIMILARITIES_AT_ONCE = 1 << 24
"""64 MB."""


def window_descriptors(features: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Return descriptors of windows of features (B, C, h, w): (B, rows * columns, C), L2-normalised."""
    h, w = features.shape[-2:]
    slices = [(y, x) for y in window_slices(h, rows) for x in window_slices(w, columns)]
    return torch.stack([pool(features[:, :, y, x], "max") for y, x in slices], dim=1)


def query_descriptors(features: torch.Tensor, cells: Sequence[int]) -> torch.Tensor:
    """Return descriptors (P, C) of the windows of a query's box, two cells wide or, in a large box, an eighth of it.

    Args:
        features: of the crop, (1, C, h, w).
        cells: [x1, x2) x [y1, y2) of the box.
    """
    x1, y1, x2, y2 = cells
    rows, columns = (min(max(cells - 1, 1), WINDOWS) for cells in (y2 - y1, x2 - x1))
    return window_descriptors(features[:, :, y1:y2, x1:x2], rows, columns)[0]


def similarities(query: torch.Tensor, descriptors: np.ndarray) -> np.ndarray:
    """Return how alike a query and pictures are, float32 (n,), in [-1, 1].

    Args:
        query: descriptors of its windows (P, C), on any device.
        descriptors: of the pictures' windows, float16 (n, W, C), memory-mapped: some are read at a time.
    """
    found = np.empty(len(descriptors), np.float32)
    step = max(1, _SIMILARITIES_AT_ONCE // (descriptors.shape[1] * max(descriptors.shape[2], len(query))))
    for start in range(0, len(descriptors), step):
        some = torch.from_numpy(np.asarray(descriptors[start : start + step], np.float32)).to(query.device)
        found[start : start + len(some)] = (some @ query.T).amax(dim=1).mean(dim=1).cpu().numpy()
    return found


def most_alike(similarity: np.ndarray, candidates: np.ndarray, count: int) -> np.ndarray:
    """Return the ``count`` most alike (0: all) of the candidates, best first; ties by number.

    Args:
        similarity: of all pictures, float (n,).
        candidates: numbers of some of them, ascending.
    """
    order = candidates[np.argsort(-similarity[candidates], kind="stable")]
    return order[:count] if count else order
