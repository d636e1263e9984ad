"""The published losses (paper section 3.3) and accuracies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from segswap.models.transformer import EPSILON
from segswap.sampling import sample


@dataclasses.dataclass(frozen=True)
class Targets:
    """Labels of a batch of positive pairs: masks (B, 1, h, w) in [0, 1] and maps (B, 2, h, w)."""

    mask_a: torch.Tensor
    mask_b: torch.Tensor
    corr_a: torch.Tensor
    corr_b: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Losses:
    """Losses and accuracies of a batch, scalars, over all processes.

    ``total`` carries the gradient of this process's share: the shares' gradients add up to that of the whole batch.
    """

    total: torch.Tensor
    mask: torch.Tensor
    correspondence: torch.Tensor
    accuracy_positive: torch.Tensor
    accuracy_negative: torch.Tensor

    @property
    def accuracy(self) -> torch.Tensor:
        """Mean of the accuracies on positive and negative cells."""
        return (self.accuracy_positive + self.accuracy_negative) / 2


def _binary_cross_entropy(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each cell; predictions are in [EPSILON, 1 - EPSILON].

    PyTorch's own stops the program at a NaN (on a GPU with a device assertion); here it comes out as a NaN, so
    that the loop can say at which samples.
    """
    return -(target * predicted.log() + (1 - target) * (-predicted).log1p())


def pair_losses(
    output_a: torch.Tensor,
    output_b: torch.Tensor,
    targets: Targets,
    negatives: list[torch.Tensor],
    eta: float,
    cells: str,
    transport: bool = True,
    over_processes: Callable[[torch.Tensor], torch.Tensor] = lambda values: values,
) -> Losses:
    """Return the losses of a batch.

    The mask loss is one mean of binary cross-entropies over all cells of the positive masks, of the masks
    transported through the predicted correspondence, and of the negative pairs' masks (against zero). The
    correspondence loss is the mean absolute error of x and y over the cells that ``cells`` selects.

    Args:
        output_a, output_b: (B, 3, h, w) of the positive pairs.
        targets: their labels.
        negatives: outputs (N, 3, h, w) of negative pairs, both sides.
        eta: weight of the correspondence loss (published: 8).
        cells: ``all`` weighs every cell by its mask (the paper's formula); ``maximum`` takes the cells whose
            mask equals its map's maximum (the released code).
        transport: whether transported masks take part.
        over_processes: sums a tensor over all processes that share the batch.
    """
    masks = [output_a[:, 2:], output_b[:, 2:]]
    wanted = [targets.mask_a, targets.mask_b]
    terms = list(masks)
    if transport:
        terms += [
            sample(output_b[:, 2:], output_a[:, :2]).clamp(EPSILON, 1 - EPSILON),
            sample(output_a[:, 2:], output_b[:, :2]).clamp(EPSILON, 1 - EPSILON),
        ]
        wanted = wanted * 2
    unwanted = [output[:, 2:] for output in negatives]
    predicted = torch.cat([t.flatten() for t in (*terms, *unwanted)])
    target = torch.cat([t.flatten() for t in wanted] + [torch.zeros_like(t).flatten() for t in unwanted])
    mask_error = _binary_cross_entropy(predicted, target).sum()

    if cells == "maximum":
        weights = [mask == mask.amax(dim=(1, 2, 3), keepdim=True) for mask in wanted[:2]]
        positive = weights
    else:
        weights = wanted[:2]
        positive = [mask > 0.5 for mask in weights]
    errors = [(output_a[:, :2] - targets.corr_a).abs(), (output_b[:, :2] - targets.corr_b).abs()]
    map_error = sum((weight * error).sum() for weight, error in zip(weights, errors, strict=True))

    with torch.no_grad():
        shown = torch.cat([mask.flatten() for mask in (*masks, *unwanted)])
        due = torch.cat([p.flatten() for p in positive] + [torch.zeros_like(u).flatten().bool() for u in unwanted])
        sums = [mask_error, map_error, ((shown > 0.5) & due).sum(), ((shown < 0.5) & ~due).sum()]
        counts = [predicted.numel(), 2 * sum(weight.sum() for weight in weights), due.sum(), (~due).sum()]
        # Means are over the cells of all processes, whatever part of them each one holds.
        both = over_processes(torch.stack([torch.as_tensor(v, device=target.device).float() for v in sums + counts]))
        sums, counts = both.chunk(2)
        # Where no pair has a mask there is no correspondence to be wrong.
        counts[1] = counts[1].clamp(min=1e-6)
        means = sums / counts
    share = mask_error / counts[0] + eta * map_error / counts[1]
    total = means[0] + eta * means[1]
    return Losses(share + (total - share).detach(), *means)
