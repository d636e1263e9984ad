"""The baseline without a trained matcher: each cell's best cosine match, and a threshold on its cosine as mask."""

from __future__ import annotations

import torch
from torch import nn

from segswap.sampling import cell_centres


class CosineMatcher(nn.Module):
    """A matcher with the inputs and outputs of the trained ones that has nothing to learn but one threshold.

    A cell's correspondence is the centre of the most similar cell of the other image; its mask is 1 where
    that cosine is above the threshold, else 0.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        x_hidden: torch.Tensor | None = None,
        y_hidden: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Match features (B, C, hx, wx) and (B, C, hy, wy); see ``Transformer.forward``."""
        similarity = torch.einsum("bcn,bcm->bnm", x.flatten(2), y.flatten(2))
        to_y, to_x = similarity, similarity.transpose(1, 2)
        if y_hidden is not None:
            to_y = to_y.masked_fill(y_hidden.flatten(1)[:, None, :], -2.0)
        if x_hidden is not None:
            to_x = to_x.masked_fill(x_hidden.flatten(1)[:, None, :], -2.0)
        return self._maps(to_y, x, y), self._maps(to_x, y, x)

    def _maps(self, similarity: torch.Tensor, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        best, cell = similarity.max(dim=2)
        centres = cell_centres(*other.shape[-2:], other.device).flatten(1)
        position = centres[:, cell].transpose(0, 1)
        mask = (best > self.threshold).to(own.dtype)
        return torch.cat([position, mask[:, None]], dim=1).unflatten(2, own.shape[-2:])


def best_cosines(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return for each cell of x (B, C, h, w) its best cosine in y, (B, h, w)."""
    similarity = torch.einsum("bcn,bcm->bnm", x.flatten(2), y.flatten(2))
    return similarity.max(dim=2).values.unflatten(1, x.shape[-2:])
