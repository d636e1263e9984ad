"""Which image pairs of a collection are worth matching: all of them, or those with alike parts.

A detail that two images share is small, so that whole images hardly look alike by it. Images are compared by windows:
each is pooled to one descriptor, and two images are as alike as their most alike windows. The search is exact.
"""

from __future__ import annotations

import itertools
import os

import numpy as np
import torch
from torch.nn import functional as F

from segswap.files import read_arrays, write_arrays
from segswap.matching.features import FeatureStore
from segswap.matching.pooling import pool, window_slices
from segswap.progress import progress

_SIMILARITIES_AT_ONCE = 1 << 25
"""Similarities of windows in memory at once: 128 MB."""


def all_pairs(n_images: int) -> np.ndarray:
    """Return every pair of images, int64 (P, 2), the lower number first."""
    return np.array(list(itertools.combinations(range(n_images), 2)), np.int64).reshape(-1, 2)


def window_descriptors(store: FeatureStore, count: int, windows: int, batch: int = 64) -> torch.Tensor:
    """Return a descriptor of each window of each of the first ``count`` images, float32 (count, windows^2, C).

    The largest of each channel, as in R-MAC (Tolias et al. 2016); the collection's mean is taken off, as what all
    images have in common says nothing.
    """
    rows, columns = (window_slices(cells, windows) for cells in store.shape)
    found = []
    for start in progress(range(0, count, batch), "descriptors (batches)"):
        features = store.read(range(start, min(start + batch, count)))
        found.append(torch.stack([pool(features[:, :, y, x], "max") for y in rows for x in columns], dim=1))
    descriptors = torch.cat(found)
    return F.normalize(descriptors - descriptors.mean((0, 1)), dim=2)


def candidate_pairs(descriptors: torch.Tensor, candidates: int) -> np.ndarray:
    """Return the pairs in which either image has the other among its ``candidates`` most alike ones.

    The cost of the search grows with the square of the images, but it is a product of matrices: small beside matching.

    Args:
        descriptors: float32 (n, W, C), L2-normalised, of W windows of each image, on any device.
        candidates: of each image, at least 1; ties go to the lower number.

    Returns:
        int64 (P, 2), sorted, the lower number first.
    """
    n, windows, channels = descriptors.shape
    flat = descriptors.reshape(-1, channels)
    pairs = set()
    step = max(1, _SIMILARITIES_AT_ONCE // (n * windows * windows))
    for start in progress(range(0, n, step), "alike images"):
        some = flat[start * windows : (start + step) * windows]
        similarity = (some @ flat.T).reshape(-1, windows, n, windows).amax(dim=(1, 3))
        own = torch.arange(len(similarity))
        similarity[own, start + own] = -torch.inf
        best = similarity.argsort(dim=1, descending=True, stable=True)[:, : min(candidates, n - 1)]
        for image, others in enumerate(best.tolist(), start):
            pairs |= {(min(image, other), max(image, other)) for other in others}
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def write_pairs(path: str | os.PathLike, pairs: np.ndarray) -> None:
    """Write image pairs (P, 2) as a whole npz file."""
    write_arrays(path, pairs=pairs)


def read_pairs(path: str | os.PathLike) -> np.ndarray:
    """Read a file of ``write_pairs``.

    Raises:
        InputError: when the file is not of that form.
    """
    return read_arrays(path, "image pairs", ["pairs"])["pairs"]
