"""Nc-Net: matches are judged by the matches around them (the paper's second architecture, which was never released).

The cosines of all cells of one image with all cells of the other are a volume in four dimensions. Only the best entries
of each cell are kept, seen from both images, and two convolutions in four dimensions, evaluated at these entries alone,
give each its score. Neighbourhood consensus: Rocco et al. 2018, its sparse form 2020. What the paper leaves open, the
head above all, is a decision of ours (docs/deviations.md).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from segswap.models.transformer import EPSILON
from segswap.sampling import cell_centres

KERNEL = 3
"""Side of the convolutions' kernels, in cells, in each of the four dimensions."""

_TAPS = KERNEL**4
_ENTRIES_AT_ONCE = 2**18
"""Kept entries whose neighbourhoods are in memory together: 81 numbers of each, and 81 indices."""


@dataclasses.dataclass(frozen=True)
class NcNetSettings:
    """Size of an Nc-Net.

    Attributes:
        channels: channels of the features, C; no weight depends on it.
        top_k: correlations kept of each cell, from both sides; 0 keeps all of them (dense).
        width: channels between the two convolutions.
    """

    channels: int
    top_k: int = 10
    width: int = 16


class _Neighbourhoods(torch.autograd.Function):
    """What lies around each entry of a sparse volume: values (N,) to (81, N), 0 where no entry is."""

    @staticmethod
    def forward(ctx, values: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(neighbours)
        return F.pad(values, (1, 0)).index_select(0, neighbours.flatten()).view(neighbours.shape)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Gathered.apply(gradient, *ctx.saved_tensors), None


class _Gathered(torch.autograd.Function):
    """The adjoint: what all entries give to what lies around them, (81, N), summed where it arrives, (N,).

    If q lies at the offset d from p, then p lies at the opposite offset from q: a sum over neighbours, each entry for
    itself, and nothing is scattered. So neither direction depends on an order of additions.
    """

    @staticmethod
    def forward(ctx, parts: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(neighbours)
        if torch.compiler.is_exporting():
            # One node of a graph instead of hundreds, as in ``_neighbours``.
            return F.pad(parts, (1, 0)).gather(1, neighbours.flip(0).long()).sum(0)
        total = torch.zeros_like(parts[0])
        for part, opposite in zip(parts, reversed(neighbours.unbind()), strict=True):
            total += F.pad(part, (1, 0)).index_select(0, opposite)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Neighbourhoods.apply(gradient, *ctx.saved_tensors), None


def _neighbours(kept: torch.Tensor) -> torch.Tensor:
    """Return the number of the entry at each offset from each entry, int32 (81, N); 0 where none is.

    Args:
        kept: bool (B, hx, wx, hy, wy), True at N entries, which are numbered in order, from 1.
    """
    padded = F.pad(kept, (1,) * 8)
    strides = padded.stride()[1:]
    padded = padded.flatten()
    places = padded.nonzero()[:, 0]
    numbers = padded.cumsum(0, dtype=torch.int32) * padded
    offsets = torch.cartesian_prod(*[torch.arange(-(KERNEL // 2), KERNEL // 2 + 1)] * 4)
    steps = sum(offset * stride for offset, stride in zip(offsets.T, strides, strict=True))
    if torch.compiler.is_exporting():
        # One node of a graph instead of hundreds, and more memory.
        return numbers[places + steps[:, None]]
    return torch.stack([numbers.index_select(0, places + step) for step in steps.tolist()])


def _exchanged(kernels: torch.Tensor) -> torch.Tensor:
    """Return kernels (..., 3, 3, 3, 3) with the roles of the two images exchanged."""
    return kernels.transpose(-4, -2).transpose(-3, -1)


def _visible(hidden: torch.Tensor | None, features: torch.Tensor) -> torch.Tensor:
    """Return which cells of features (B, C, h, w) have correlations, bool (B, h * w)."""
    if hidden is None:
        return torch.ones_like(features[:, 0], dtype=torch.bool).flatten(1)
    hidden = hidden.flatten(1)
    return ~hidden | hidden.all(dim=1, keepdim=True)


def _best(cosines: torch.Tensor, seen: torch.Tensor, count: int) -> torch.Tensor:
    """Return the entries of cosines (B, n, m) that are among the ``count`` best of their row or of their column.

    Args:
        seen: bool (B, n, m); others are never kept. count: 0 keeps all.

    Returns:
        bool (B, n, m). Of equal cosines some are taken, so that no plain picture fills the volume.
    """
    if not count:
        return seen
    possible = cosines.detach().masked_fill(~seen, -torch.inf)
    kept = torch.zeros_like(seen)
    for dim in (2, 1):
        kept = kept.scatter(dim, possible.topk(torch.sym_min(count, possible.shape[dim]), dim).indices, True)
    return kept & seen


def _best_scores(scores: torch.Tensor, cells: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return the best of the scores (N,) of each cell's entries, (B * n,), minus infinity where it has none.

    Args:
        cells: each entry's cell, counted over the batch. seen: bool (B, n), whose size counts.
    """
    return torch.full_like(seen.flatten(), -torch.inf, dtype=scores.dtype).scatter_reduce(0, cells, scores, "amax")


class NcNet(nn.Module):
    """Nc-Net on features; inputs and outputs are those of ``segswap.models.transformer.Transformer``."""

    # A compiled graph wants sizes that it knows; here they depend on the data. (The decorator of PyTorch that says the
    # same imports the whole compiler, which takes seconds in every program.)
    compilable = False

    def __init__(self, settings: NcNetSettings) -> None:
        super().__init__()
        self.settings = settings
        kernels = (settings.width, *(KERNEL,) * 4)
        self.weight1 = nn.Parameter(torch.empty(kernels))
        self.bias1 = nn.Parameter(torch.zeros(settings.width))
        self.weight2 = nn.Parameter(torch.empty(kernels))
        # Logarithms, so that steps of training are shares of what they change.
        self.log_sharpness = nn.Parameter(torch.tensor(3.0))
        self.log_mask_scale = nn.Parameter(torch.tensor(2.3))
        self.mask_threshold = nn.Parameter(torch.tensor(0.3))
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Start as a vote of the matches around: those in step with a match, moved alike in both images, count for it.

        PyTorch's own random weights are added, which make the channels differ. An untrained net then matches already;
        what it gains in training is said in docs/deviations.md.
        """
        for weight, inputs in ((self.weight1, _TAPS), (self.weight2, self.settings.width * _TAPS)):
            nn.init.uniform_(weight, -(inputs**-0.5), inputs**-0.5)
            in_step = weight.flatten(3).flatten(1, 2).diagonal(dim1=1, dim2=2)
            in_step += KERNEL**2 / inputs

    def forward(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        x_hidden: torch.Tensor | None = None,
        y_hidden: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Match two batches of images.

        Args:
            x: features (B, C, hx, wx), L2-normalised. y: features (B, C, hy, wy).
            x_hidden, y_hidden: bool (B, 1, h, w), True where a cell is hidden: it has no correlations. A sample
                whose cells are all hidden is treated as if none were.

        Returns:
            (B, 3, hx, wx) and (B, 3, hy, wy): channels x and y (normalised position in the other image) and mask,
            in [1e-7, 1 - 1e-7]. A hidden cell points at the middle, and its score is 0.
        """
        sides = (x, y, _visible(x_hidden, x), _visible(y_hidden, y))
        # Cosines that differ in the fourth digit are told apart here: no autocast to fewer digits.
        with torch.autocast(x.device.type, enabled=False):
            # A graph for any batch has no loop over its parts.
            found = [self._match(*sides)] if torch.compiler.is_exporting() else self._match_parts(*sides)
        maps_x, maps_y = (torch.cat(parts) for parts in zip(*found, strict=True))
        return maps_x, maps_y

    def _match_parts(self, *sides: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Match some pairs at a time: what is in memory goes with their entries."""
        n, m = (side[0, 0].numel() for side in sides[:2])
        entries = min(n * m, (n + m) * self.settings.top_k) if self.settings.top_k else n * m
        parts = zip(*(side.split(max(1, _ENTRIES_AT_ONCE // entries)) for side in sides), strict=True)
        if self.settings.top_k:
            return [self._match(*part) for part in parts]
        # Even one pair of a whole volume fills the memory: what its gradient needs is computed a second time.
        return [checkpoint(self._match, *part, use_reentrant=False) for part in parts]

    def _match(
        self, x: torch.Tensor, y: torch.Tensor, seen_x: torch.Tensor, seen_y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        (hx, wx), (hy, wy) = x.shape[-2:], y.shape[-2:]
        # Views where features lie channels last.
        cosines = x.permute(0, 2, 3, 1).flatten(1, 2) @ y.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
        seen = seen_x[:, :, None] & seen_y[:, None, :]
        kept = _best(cosines, seen, self.settings.top_k)
        pair, row, column = kept.nonzero(as_tuple=True)
        # Mutual matches count: each cosine is weighted by its ratio to the best of its row and of its column.
        cosines = cosines.relu() * seen
        of_row, of_column = cosines.amax(2)[pair, row], cosines.amax(1)[pair, column]
        values = cosines[pair, row, column]
        values = values * (values / of_row.clamp(min=EPSILON)) * (values / of_column.clamp(min=EPSILON))
        scores = self._consensus(values, kept.unflatten(2, (hy, wy)).unflatten(1, (hx, wx)))
        cells_x, cells_y = pair * (hx * wx) + row, pair * (hy * wy) + column
        best_x, best_y = _best_scores(scores, cells_x, seen_x), _best_scores(scores, cells_y, seen_y)
        # A match loses what its target has better elsewhere: else cells without a match crowd where others match.
        maps_x = self._maps(2 * scores - best_y[cells_y], cells_x, column, (hy, wy), seen_x)
        maps_y = self._maps(2 * scores - best_x[cells_x], cells_y, row, (hx, wx), seen_y)
        return maps_x.unflatten(2, (hx, wx)), maps_y.unflatten(2, (hy, wy))

    def _consensus(self, values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return the scores of the kept entries, (N,), from their values, (N,); ``kept``: as of ``_neighbours``.

        Two convolutions with a ReLU between, of the volume and of the volume with exchanged images, summed: as one
        convolution to twice the channels, half of its kernels exchanged. The second one first gives every entry's
        contribution to each of its neighbours, one number for each instead of all channels.
        """
        neighbours = _neighbours(kept)
        weight1, weight2 = (torch.cat([w, _exchanged(w)]).flatten(1) for w in (self.weight1, self.weight2))
        around = _Neighbourhoods.apply(values, neighbours)
        channels = torch.addmm(self.bias1.repeat(2)[:, None], weight1, around).relu()
        return _Gathered.apply(weight2.T.flip(0) @ channels, neighbours)

    def _maps(
        self,
        scores: torch.Tensor,
        cells: torch.Tensor,
        targets: torch.Tensor,
        target_shape: tuple[int, int],
        seen: torch.Tensor,
    ) -> torch.Tensor:
        """Return one image's output (B, 3, n) from the scores of entries.

        Args:
            scores: (N,). cells: each entry's cell in the image, counted over the batch. targets: its cell in the
                other image. target_shape: (h, w) of the other image. seen: bool (B, n).
        """
        best = _best_scores(scores, cells, seen)
        weights = (self.log_sharpness.exp() * (scores - best.detach()[cells])).exp()
        centres = cell_centres(*target_shape, scores.device).to(scores.dtype).flatten(1)[:, targets]
        total, x, y = (torch.zeros_like(best).scatter_add(0, cells, v) for v in (weights, *(weights * centres)))
        none = best.isinf()
        position = torch.where(none, 0.5, torch.stack([x, y]) / total.clamp(min=1))
        mask = (self.log_mask_scale.exp() * (best.masked_fill(none, 0) - self.mask_threshold)).sigmoid()
        return torch.cat([position, mask[None]]).view(3, *seen.shape).transpose(0, 1).clamp(EPSILON, 1 - EPSILON)
