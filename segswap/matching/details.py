"""A detail against an image: how much each cell of the query counts, and where in the image the detail lies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from segswap.geometry import STRIDE
from segswap.matching.crops import Box
from segswap.matching.score import self_match_mask
from segswap.sampling import cell_centres, sample


def cell_mask(cells: Sequence[int], side: int) -> torch.Tensor:
    """Return float32 (1, side, side): 1 in the cells [x1, x2) x [y1, y2), else 0."""
    mask = torch.zeros(1, side, side)
    mask[:, cells[1] : cells[3], cells[0] : cells[2]] = 1
    return mask


def query_weights(
    features: torch.Tensor, cells: Sequence[Sequence[int]], matcher: nn.Module, batch: int = 32
) -> torch.Tensor:
    """Return how much each cell of a query counts, (Q, 1, side, side): its box, where it matches itself.

    Args:
        features: of the query crops, (Q, C, side, side).
        cells: of each query's box, see ``segswap.matching.crops.query_cells``.
        matcher: in evaluation mode, on the features' device.
    """
    weight = torch.stack([cell_mask(some, features.shape[-1]) for some in cells]).to(features.device)
    for start in range(0, len(features), batch):
        some = slice(start, start + batch)
        weight[some] = self_match_mask(matcher(features[some], features[some]), weight[some])
    return weight


def target_masks(maps_y: torch.Tensor, joint: torch.Tensor) -> torch.Tensor:
    """Return where the queries lie in the images, (B, 1, h, w) in [0, 1].

    Args:
        maps_y: outputs (B, 3, h, w) of the images.
        joint: of the queries, see ``segswap.matching.score.joint_mask``.
    """
    return sample(joint, maps_y[:, :2]) * maps_y[:, 2:]


def direct_box(maps: torch.Tensor, joint: torch.Tensor, box: Sequence[int]) -> Box:
    """Return the box, normalised, that the correspondences of the query's cells give; zeros where nothing matches.

    Scale and shift that carry the cells to their targets are fitted by least squares, weighted with the
    joint mask, and applied to the query's box.

    Args:
        maps: output (3, side, side) of the query.
        joint: its joint mask (side, side).
        box: of the query, in pixels of its crop.
    """
    weight = joint.flatten().double()
    total = weight.sum()
    if total < 1e-6:
        return 0.0, 0.0, 0.0, 0.0
    own = cell_centres(*joint.shape, joint.device).flatten(1).double()
    target = maps[:2].flatten(1).double()
    own_mean, target_mean = (own * weight).sum(1) / total, (target * weight).sum(1) / total
    own, target = own - own_mean[:, None], target - target_mean[:, None]
    spread = (weight * own.square().sum(0)).sum()
    scale = float((weight * (own * target).sum(0)).sum() / spread) if spread > 1e-9 else 1.0
    scale = min(max(scale, 0.25), 4.0)
    side = joint.shape[-1] * STRIDE
    corners = torch.tensor(box, dtype=torch.float64, device=joint.device).view(2, 2) / side
    low, high = ((corner - own_mean) * scale + target_mean for corner in corners)
    return (*low.clamp(0, 1).tolist(), *high.clamp(0, 1).tolist())
