"""The torch side of ``segswap.geometry``: sampling maps at normalised positions, on any device, with gradients.

Shapes: maps (B, C, h, w), positions (B, 2, ...) with channels (x, y) in [0, 1]. A test holds these functions
equal to the numpy ones.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F


def sample(maps: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Sample maps (B, C, h, w) at positions (B, 2, h', w'), bilinear, zero outside: (B, C, h', w')."""
    grid = (2 * position - 1).permute(0, 2, 3, 1)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def cell_centres(h: int, w: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the normalised positions of all cells, float32 (2, h, w): the identity correspondence map."""
    x = (torch.arange(w, device=device) + 0.5) / w
    y = (torch.arange(h, device=device) + 0.5) / h
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


def cycle_masks(maps_x: torch.Tensor, maps_y: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cycle-consistent masks of predictions (B, 3, h, w) of both images, source weighted by ``weight``.

    The source mask (times weight, (B, 1, h, w)) is carried into y, multiplied with y's mask, carried back and
    multiplied with the source mask; that, carried into y, is the other image's mask.
    """
    mask_x = maps_x[:, 2:] * weight
    in_y = sample(mask_x, maps_y[:, :2]) * maps_y[:, 2:]
    final_x = sample(in_y, maps_x[:, :2]) * mask_x
    return final_x, sample(final_x, maps_y[:, :2])
