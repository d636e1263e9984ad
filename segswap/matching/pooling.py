"""One vector for many cells: the global descriptor of an image, or of a part of it."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def window_slices(cells: int, windows: int) -> list[slice]:
    """Return ``windows`` windows along a side of ``cells`` cells; each half covers the next, together they cover all.

    Where there are fewer cells than that needs, windows repeat.
    """
    size = 2 * cells / (windows + 1)
    starts = [min(round(n * size / 2), cells - 1) for n in range(windows)]
    return [slice(start, max(round(start + size), start + 1)) for start in starts]


def pool(features: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool features (B, C, h, w) to L2-normalised descriptors (B, C).

    Args:
        pooling: ``mean``; ``gem``: the generalised mean with p = 3 (Radenovic et al. 2018), features of a linear
            layer keep their sign; ``max``: the largest of each channel (MAC, Tolias et al. 2016).
    """
    if pooling == "gem":
        cubes = features.flatten(2).pow(3).mean(2)
        pooled = cubes.sign() * cubes.abs().pow(1 / 3)
    elif pooling == "max":
        pooled = features.flatten(2).amax(2)
    else:
        pooled = features.flatten(2).mean(2)
    return F.normalize(pooled, dim=1)
