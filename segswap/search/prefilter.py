"""Which pictures of a folder are worth matching with a query: those of which a part looks alike.

A detail is small, so that whole pictures hardly look alike by it. Each picture has descriptors of regions of three
sizes, each region's cells pooled to one vector; a query has one, of the cells of its box. A picture is as alike as its
most alike region. The search is exact and reads the descriptors once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from segswap.matching.pooling import pool, window_slices

WINDOWS = (1, 2, 4)
"""Windows along each side: the whole picture, 2 x 2 and 4 x 4 that overlap by half."""

_IMAGES_AT_ONCE = 512


def region_count() -> int:
    """Return how many regions a picture has."""
    return sum(windows**2 for windows in WINDOWS)


def region_descriptors(features: torch.Tensor) -> torch.Tensor:
    """Return the descriptors of all regions of pictures, features (B, C, h, w): (B, regions, C), L2-normalised."""
    h, w = features.shape[-2:]
    slices = [(y, x) for count in WINDOWS for y in window_slices(h, count) for x in window_slices(w, count)]
    return torch.stack([pool(features[:, :, y, x], "max") for y, x in slices], dim=1)


def query_descriptor(features: torch.Tensor, cells: Sequence[int]) -> torch.Tensor:
    """Return the descriptor (C,) of the cells [x1, x2) x [y1, y2) of a query, features (1, C, h, w)."""
    x1, y1, x2, y2 = cells
    return pool(features[:, :, y1:y2, x1:x2], "max")[0]


def similarities(queries: torch.Tensor, descriptors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return how alike queries and pictures are, float32 (Q, n), in [-1, 1].

    Args:
        queries: descriptors (Q, C), on any device.
        descriptors: of the pictures, float16 (n, regions, C), memory-mapped: some are read at a time.
        mean: float32 (C,), taken off all descriptors: what all pictures have in common says nothing.
    """
    centre = torch.from_numpy(mean).to(queries.device)
    asked = F.normalize(queries - centre, dim=1)
    found = np.empty((len(queries), len(descriptors)), np.float32)
    for start in range(0, len(descriptors), _IMAGES_AT_ONCE):
        some = torch.from_numpy(np.asarray(descriptors[start : start + _IMAGES_AT_ONCE], np.float32)).to(queries.device)
        alike = F.normalize(some - centre, dim=2) @ asked.T
        found[:, start : start + len(some)] = alike.amax(dim=1).T.cpu().numpy()
    return found


def most_alike(similarity: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of the ``count`` most alike allowed pictures (0: all), best first; ties by number.

    Args:
        similarity: float (n,).
        allowed: bool (n,).
    """
    order = np.argsort(-similarity, kind="stable")
    order = order[allowed[order]]
    return order[:count] if count else order
