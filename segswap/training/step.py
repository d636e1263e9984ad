"""One training step: features of a batch, positives and negatives through the matcher, losses."""

from __future__ import annotations

import contextlib
import dataclasses

import torch
from torch import nn

from segswap.device import autocast
from segswap.models.segswap import SegSwap
from segswap.training.augment import Spline, draw_spline, warp_images, warp_targets
from segswap.training.batches import Batch, Inputs, negative_indices
from segswap.training.losses import Losses, Targets, pair_losses
from segswap.training.numerics import Numerics
from segswap.training.photometric import change_pictures
from segswap.training.processes import Processes


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """How outputs are judged.

    Attributes:
        eta: weight of the correspondence loss.
        correspondence_cells: ``all`` (the paper's formula) or ``maximum`` (the released code).
        transport: whether transported masks take part in the mask loss.
    """

    eta: float
    correspondence_cells: str
    transport: bool


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a step is carried out.

    Attributes:
        device: where.
        matcher: the model's own, compiled or shared with other processes.
        numerics: decided for the device.
        processes: that share the batch.
    """

    device: torch.device
    matcher: nn.Module
    numerics: Numerics
    processes: Processes

    @classmethod
    def of(cls, model: SegSwap, device: torch.device, numerics: Numerics, processes: Processes) -> Execution:
        """Prepare the matcher of a model, which is on the device already."""
        numerics = numerics.on(device)
        matcher = processes.share_gradients(numerics.compiled(model.matcher), device)
        return cls(device, matcher, numerics, processes)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return a context in which the products of trunk and matcher are computed in the wanted precision."""
        return autocast(self.device, self.numerics.precision)


@dataclasses.dataclass(frozen=True)
class HardNegatives:
    """Features of pairs of images that share nothing though the model thinks so, both (n, C, h, w)."""

    first: torch.Tensor
    second: torch.Tensor


def _features(model: SegSwap, inputs: Inputs, device: torch.device) -> torch.Tensor:
    """Return a side's features (B, C, h, w), rounded as stored ones are, so that both sources agree."""
    parts, rows = [], []
    if len(inputs.images):
        images = inputs.images.to(device, non_blocking=True).float() / 255
        if inputs.changes is not None:
            images = change_pictures(images, inputs.changes)
        parts.append(model.features(images).half().float())
        rows.append(inputs.image_rows)
    if inputs.features is not None:
        parts.append(inputs.features.to(device, non_blocking=True))
        rows.append(inputs.feature_rows)
    return torch.cat(parts)[torch.cat(rows).argsort()]


def _warped(batch: Batch, device: torch.device) -> tuple[Inputs, Targets]:
    """Return side b and the labels with the batch's splines applied."""
    targets = Targets(*(getattr(batch.targets, f.name).to(device) for f in dataclasses.fields(Targets)))
    if not batch.warp.any():
        return batch.b, targets
    rows = batch.warp.nonzero()[:, 0]
    spline = draw_spline(batch.warp_random[rows].to(device))
    # Warped images are always given as pixels: find their places among the side's images.
    places = torch.searchsorted(batch.b.image_rows, rows)
    images = batch.b.images.to(device).float()
    images[places] = warp_images(images[places], spline)
    moved = _warp_rows(targets, rows.to(device), spline)
    return dataclasses.replace(batch.b, images=images), moved


def _warp_rows(targets: Targets, rows: torch.Tensor, spline: Spline) -> Targets:
    fields = [f.name for f in dataclasses.fields(Targets)]
    chosen = warp_targets(Targets(*(getattr(targets, name)[rows] for name in fields)), spline)
    return Targets(*(getattr(targets, name).index_copy(0, rows, getattr(chosen, name)) for name in fields))


def unrelated(batch: Batch, first: list[int], second: list[int]) -> list[int]:
    """Return which negatives are honest: their images show no photo in common."""
    return [n for n, (i, j) in enumerate(zip(first, second, strict=True)) if not batch.photos_a[i] & batch.photos_b[j]]


def batch_losses(
    model: SegSwap,
    batch: Batch,
    n_negatives: int,
    settings: LossSettings,
    execution: Execution,
    hard: HardNegatives | None = None,
) -> Losses:
    """Run the model on a batch and return its losses.

    The features of an image are computed once and serve its positive and all its negative pairs.
    """
    device = execution.device
    b, targets = _warped(batch, device)
    with execution.autocast():
        features_a, features_b = _features(model, batch.a, device), _features(model, b, device)
    hidden_b = (targets.mask_b < 0.5) & batch.hide.to(device)[:, None, None, None]

    n = len(features_a)
    first, second = negative_indices(n, n_negatives)
    honest = unrelated(batch, first, second)
    first, second = [first[k] for k in honest], [second[k] for k in honest]
    x = torch.cat([features_a, features_a[first]])
    y = torch.cat([features_b, features_b[second]])
    y_hidden = torch.cat([hidden_b, hidden_b[second]])
    if hard is not None:
        x, y = torch.cat([x, hard.first]), torch.cat([y, hard.second])
        y_hidden = torch.cat([y_hidden, torch.zeros_like(y_hidden[:1]).expand(len(hard.first), -1, -1, -1)])
    with execution.autocast():
        if batch.swap:
            output_b, output_a = execution.matcher(y, x, y_hidden, None)
        else:
            output_a, output_b = execution.matcher(x, y, None, y_hidden)
    return pair_losses(
        output_a[:n],
        output_b[:n],
        targets,
        [output_a[n:], output_b[n:]],
        settings.eta,
        settings.correspondence_cells,
        settings.transport,
        execution.processes.total,
    )
