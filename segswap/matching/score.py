"""The score of a pair (specification of the benchmarks, "Score of a pair"; paper section 3.4), batched.

Under ``protocol: published`` the cell hit by a correspondence is round(x * (w - 1)), as in the released code;
under ``corrected`` it is floor(x * w), the cell whose area holds the position.
"""

from __future__ import annotations

import torch

from segswap.sampling import cycle_masks, sample

PROTOCOLS = ("corrected", "published")

_CELLS_AT_ONCE = 128


def hit_cells(position: torch.Tensor, shape: tuple[int, int], protocol: str) -> torch.Tensor:
    """Return the flat index of the cell that each position hits.

    Args:
        position: normalised (B, 2, h, w) in the other image.
        shape: (h, w) of the other image's grid.
        protocol: ``corrected`` or ``published``.

    Returns:
        int64 (B, h, w); positions outside count for the nearest cell.
    """
    h, w = shape
    if protocol == "published":
        column, row = torch.round(position[:, 0] * (w - 1)), torch.round(position[:, 1] * (h - 1))
    else:
        column, row = torch.floor(position[:, 0] * w), torch.floor(position[:, 1] * h)
    return row.clamp(0, h - 1).long() * w + column.clamp(0, w - 1).long()


def self_match_mask(self_maps: tuple[torch.Tensor, torch.Tensor], query_mask: torch.Tensor) -> torch.Tensor:
    """Return the source's self-match mask: its match with itself, made cycle consistent.

    Args:
        self_maps: outputs (B, 3, h, w) of the model run on (source, source).
        query_mask: (B, 1, h, w) in [0, 1], the cells of interest (ones for a whole image).
    """
    return cycle_masks(self_maps[0], self_maps[1], query_mask)[0]


def joint_mask(maps_x: torch.Tensor, maps_y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return M^s * T * Q: source mask, target mask transported to the source, and weight, all (B, 1, h, w)."""
    return maps_x[:, 2:] * sample(maps_y[:, 2:], maps_x[:, :2]) * weight


def hit_cosines(features_x: torch.Tensor, features_y: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Return the cosine between each source cell and the target cell it hits, (B, h, w).

    Args:
        features_x: (B, C, h, w). features_y: (B, C, h', w'). cells: from ``hit_cells``, (B, h, w).
    """
    shape, cells = cells.shape[1:], cells.flatten(1)
    # Views where features lie channels last, as stores and trunks give them; copies else.
    x, y = (features.permute(0, 2, 3, 1).flatten(1, 2) for features in (features_x, features_y))
    if x.device.type != "cpu":
        hit = y.gather(1, cells[..., None].expand(-1, -1, y.shape[2]))
        return torch.linalg.vecdot(x, hit).unflatten(1, shape)
    # On a CPU memory is the limit: what is gathered is used while it is in the cache.
    found = x.new_empty(cells.shape)
    for n in range(len(cells)):
        for start in range(0, cells.shape[1], _CELLS_AT_ONCE):
            some = slice(start, start + _CELLS_AT_ONCE)
            torch.linalg.vecdot(x[n, some], y[n].index_select(0, cells[n, some]), out=found[n, some])
    return found.unflatten(1, shape)


def score_pairs(
    maps_x: torch.Tensor,
    maps_y: torch.Tensor,
    features_x: torch.Tensor,
    features_y: torch.Tensor,
    weight: torch.Tensor,
    protocol: str = "corrected",
) -> torch.Tensor:
    """Return the directed scores of pairs, source x to target y: (B,).

    Each source cell contributes its joint mask times the cosine of the features that it relates; of the
    source cells that hit one target cell only the largest contribution counts, never below 0.

    Args:
        maps_x: (B, 3, h, w), the source's output. maps_y: (B, 3, h', w').
        features_x, features_y: L2-normalised.
        weight: Q, (B, 1, h, w).
        protocol: see the module.
    """
    shape = maps_y.shape[-2:]
    cells = hit_cells(maps_x[:, :2], shape, protocol)
    joint = joint_mask(maps_x, maps_y, weight)[:, 0]
    contribution = joint * hit_cosines(features_x, features_y, cells)
    best = contribution.new_zeros(len(cells), shape[0] * shape[1])
    best.scatter_reduce_(1, cells.flatten(1), contribution.flatten(1), reduce="amax", include_self=True)
    return best.sum(1)


def symmetric_scores(
    maps_x: torch.Tensor,
    maps_y: torch.Tensor,
    features_x: torch.Tensor,
    features_y: torch.Tensor,
    protocol: str = "corrected",
) -> torch.Tensor:
    """Return scores of pairs in which neither image is the query, (B,): the mean of both directed ones.

    Every cell counts; arguments as of ``score_pairs``.
    """
    ones_x, ones_y = (torch.ones_like(maps[:, 2:]) for maps in (maps_x, maps_y))
    there = score_pairs(maps_x, maps_y, features_x, features_y, ones_x, protocol)
    back = score_pairs(maps_y, maps_x, features_y, features_x, ones_y, protocol)
    return (there + back) / 2
