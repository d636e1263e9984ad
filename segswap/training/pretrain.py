"""A backbone from nothing: dense contrastive learning on the pairs' own correspondences.

For use where no pretrained weights can be had (the demo world). Each masked cell of one image has its true
place in the other: the feature sampled there is its positive, the cells of all other images and those of
its own partner further away than a cell and a half are its negatives (InfoNCE). The backbone ends in a linear
layer, see ``ResNetSettings``. Afterwards it is frozen and the published two stages run on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from segswap.device import pick_device
from segswap.errors import InputError
from segswap.files import content_key, sha256, write_text
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import save_backbone
from segswap.progress import progress
from segswap.randomness import torch_seed
from segswap.sampling import cell_centres, sample
from segswap.training.batches import BatchSettings, PairBatches, load_batches
from segswap.training.history import history_csv
from segswap.training.loop import RunSettings
from segswap.training.losses import Targets
from segswap.training.state import RollingState, StopRequest, used_fields

_NEAR = 1.5
"""Cells closer than this to the true place, on both axes, are neither positive nor negative."""


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """How the backbone is trained.

    Attributes:
        steps: optimiser steps.
        pairs: pairs in a batch.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: of AdamW.
        temperature: of the contrastive softmax.
        stylise_probability: chance that a picture is the restyled one.
    """

    steps: int
    pairs: int
    learning_rate: float
    weight_decay: float
    temperature: float
    stylise_probability: float


def contrastive_loss(
    features: torch.Tensor, other: torch.Tensor, mask: torch.Tensor, corr: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the InfoNCE loss of one direction, a scalar.

    Args:
        features: (B, C, h, w), L2-normalised. other: (B, C, h', w') of the partners.
        mask: (B, 1, h, w); cells above 0.5 are the anchors.
        corr: (B, 2, h, w), the anchors' true places.
        temperature: divides the cosines.
    """
    batch, _, h, w = other.shape
    anchors = mask.flatten(1) > 0.5
    positive = F.normalize(sample(other, corr), dim=1)
    positive = (features * positive).sum(1).flatten(1)[anchors]
    queries = features.flatten(2).transpose(1, 2)[anchors]
    cosines = queries @ other.transpose(0, 1).flatten(1)

    size = torch.tensor([w, h], device=other.device)
    place = corr.flatten(2).transpose(1, 2)[anchors] * size
    centres = cell_centres(h, w, other.device).flatten(1).T * size
    near = ((place[:, None] - centres[None]).abs() < _NEAR).all(dim=2)
    image = torch.arange(batch, device=other.device)[:, None].expand_as(anchors)[anchors]
    excluded = near[:, None, :] & F.one_hot(image, batch).bool()[:, :, None]
    cosines = cosines.masked_fill(excluded.flatten(1), -torch.inf)
    logits = torch.cat([positive[:, None], cosines], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def pretrain_backbone(
    manifests: list[Path],
    weights: str | os.PathLike,
    history: str | os.PathLike,
    state: str | os.PathLike,
    backbone: ResNetSettings,
    settings: PretrainSettings,
    run: RunSettings,
    seed: int,
) -> None:
    """Train a ResNet from random weights on pair sets and write it.

    Args:
        manifests: training sets, one- then two-object.
        weights: file of ``save_backbone`` to write, last.
        history: CSV of the losses.
        state: folder of the rolling state.

    Raises:
        InputError: bad input, or a loss that is not finite.
        Interrupted: asked to stop; the state is saved.
    """
    batch_settings = BatchSettings(
        positives=settings.pairs,
        negatives=0,
        two_object_share=0.5,
        stylise_probability=settings.stylise_probability,
        warp_probability=0.0,
        warp_grids=(4,),
        hide_probability=0.0,
        swap_probability=0.0,
    )
    batches = PairBatches(manifests, batch_settings, seed)
    device = pick_device(run.device)
    torch.manual_seed(torch_seed(seed, "backbone"))
    model = ResNet(backbone).to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        # A tenth of the steps rise; of few steps two, for a single one has no slope.
        optimiser,
        settings.learning_rate,
        total_steps=settings.steps,
        pct_start=min(0.5, max(0.1, 2 / settings.steps)),
    )
    decides = [*(dataclasses.asdict(part) for part in (backbone, settings)), used_fields(batch_settings)]
    rolling = RollingState(Path(state), content_key([decides, seed, [sha256(m) for m in manifests]]))
    start, rows = 0, []
    if found := rolling.load():
        start, rows = found["step"], found["rows"]
        model.load_state_dict(found["model"])
        optimiser.load_state_dict(found["optimiser"])
        schedule.load_state_dict(found["schedule"])
        print(f"resumed at step {start}", flush=True)

    saved_at = time.monotonic()
    loader = load_batches(batches, start, settings.steps, run.workers)
    bar = progress(loader, "pretraining", settings.steps, start, makes_room=run.makes_room)
    with contextlib.closing(StopRequest(run.time_limit)) as stop:
        for step, batch in enumerate(bar, start + 1):
            images = torch.cat([batch.a.images, batch.b.images]).to(device, non_blocking=True).float() / 255
            a, b = model(images.contiguous(memory_format=torch.channels_last)).chunk(2)
            targets = Targets(*(getattr(batch.targets, f.name).to(device) for f in dataclasses.fields(Targets)))
            loss = (
                contrastive_loss(a, b, targets.mask_a, targets.corr_a, settings.temperature)
                + contrastive_loss(b, a, targets.mask_b, targets.corr_b, settings.temperature)
            ) / 2
            if not torch.isfinite(loss):
                raise InputError(f"the loss is {loss.item()} at step {step}, on the samples {batch.keys}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % run.log_every == 0:
                rows.append({"step": step, "loss": loss.item()})
                bar.set_postfix(loss=f"{loss.item():.3f}")
            if stop.reason or time.monotonic() - saved_at > run.state_seconds:
                rolling.save(
                    {
                        "step": step,
                        "rows": rows,
                        "model": model.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "schedule": schedule.state_dict(),
                    }
                )
                saved_at = time.monotonic()
                stop.raise_if_due(f"step {step}")
    write_text(history, history_csv(rows))
    save_backbone(weights, model.cpu().eval())
    rolling.remove()
