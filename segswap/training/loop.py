"""The loop of both training stages (paper section 3.3).

Everything random is addressed by the seed and the step, the dropout included, so a resumed run repeats an
uninterrupted one bit for bit (on a CPU, with the same number of threads: ``RunSettings.makes_room``).
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from segswap.device import pick_device
from segswap.errors import InputError
from segswap.files import content_key, sha256, write_json, write_text
from segswap.matching.features import FeatureStore
from segswap.models.checkpoint import load_checkpoint, save_checkpoint
from segswap.models.segswap import SegSwap
from segswap.progress import progress
from segswap.randomness import generator, torch_seed
from segswap.training.batches import Batch, BatchSettings, PairBatches, load_batches
from segswap.training.hard_negatives import Mined, mine, pool_features
from segswap.training.history import Board, Row, history_csv
from segswap.training.losses import Losses
from segswap.training.numerics import Numerics
from segswap.training.pools import MiningSettings, join_pools, write_pool
from segswap.training.processes import training_processes
from segswap.training.state import RollingState, StopRequest, used_fields
from segswap.training.step import Execution, HardNegatives, LossSettings, batch_losses


@dataclasses.dataclass(frozen=True)
class Validation:
    """A model's numbers on data it is not trained on, and a picture (RGB uint8) of what it does there, or None."""

    numbers: dict[str, float]
    picture: np.ndarray | None = None


Validate = Callable[[SegSwap], Validation]


@dataclasses.dataclass(frozen=True)
class StageFiles:
    """What a stage reads and writes.

    Attributes:
        initial: checkpoint to start from.
        manifests: training sets, one- then two-object.
        features: their feature stores, or None to compute features in each step.
        best: checkpoint of the best model by validation, written last.
        last: checkpoint of the model after the last epoch.
        history: CSV of losses and validations.
        state: folder of the rolling state; kept between attempts, emptied at the end.
        pools: Parquet file of all scored pools of hard negatives; None for stage 1.
        board: folder for TensorBoard, or None.
    """

    initial: str | os.PathLike
    manifests: list[Path]
    features: list[Path] | None
    best: str | os.PathLike
    last: str | os.PathLike
    history: str | os.PathLike
    state: str | os.PathLike
    pools: str | os.PathLike | None = None
    board: str | os.PathLike | None = None


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """One stage's schedule.

    Attributes:
        epochs: number of epochs; the model is validated after each and the best is kept.
        steps_per_epoch: steps of an epoch (stage 2: as many as there are hard pairs, see ``MiningSettings``).
        learning_rate: of Adam, after warm-up.
        beta2: Adam's second decay rate.
        gradient_clip: largest norm of the gradient, or None as published.
        warmup_steps: steps of the linear warm-up, from the first step.
        schedule: ``step`` (as published: times ``drop_factor`` after ``drop_epoch`` epochs), or ``cosine`` (to
            zero over all epochs).
        drop_epoch, drop_factor: of the schedule ``step``.
        select: validation number by which the best model is chosen, larger is better.
        weight_decay: share of every weight, times the learning rate, that each step takes away (AdamW); with 0 that
            is Adam, as published.
        weights_mean: decay of a running mean of the weights, see ``mean_decay_at``, or None as published. The mean
            is what is validated, chosen and saved; training goes on with the weights themselves.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    beta2: float
    gradient_clip: float | None
    warmup_steps: int
    schedule: str
    drop_epoch: int
    drop_factor: float
    select: str
    weight_decay: float = 0.0
    weights_mean: float | None = None


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """How a training runs; nothing here changes its result, but for last digits.

    Attributes:
        device: torch device, or ``auto``.
        workers: processes that decode ahead; 0 decodes in line.
        state_seconds: time between two saves of the rolling state.
        time_limit: seconds after which to save and stop, or None.
        log_every: steps between two lines of the history.
        makes_room: whether threads make room for other programs; without it they stay as many, and a result repeats to
            the last bit.
    """

    device: str
    workers: int
    state_seconds: float
    time_limit: float | None
    log_every: int
    makes_room: bool = True


def learning_rate_at(settings: StageSettings, step: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "cosine":
        total = settings.epochs * settings.steps_per_epoch
        share = (step - settings.warmup_steps) / max(1, total - settings.warmup_steps)
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    dropped = step >= settings.drop_epoch * settings.steps_per_epoch
    return settings.learning_rate * (settings.drop_factor if dropped else 1.0)


def mean_decay_at(decay: float, step: int) -> float:
    """Return what the running mean of the weights keeps of itself in a step, counted from 0.

    It begins with a tenth and rises: a young mean soon forgets the weights that it began with.
    """
    return min(decay, (1 + step) / (10 + step))


@dataclasses.dataclass
class _Progress:
    """Where a training stands: everything that a resumed run needs beside weights and optimiser."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float = -math.inf
    mined: Mined | None = None
    history: list[Row] = dataclasses.field(default_factory=list)


class _Trainer:
    """A training in progress: weights, their running mean, optimiser, best weights, place.

    Attributes:
        model: what is trained. Hard negatives are found by its weights, as they are what learns from them.
        kept: what is validated, chosen and saved: the same, or the model with the running mean of the weights.
    """

    def __init__(
        self,
        model: SegSwap,
        batches: PairBatches,
        stage: StageSettings,
        loss: LossSettings,
        mining: MiningSettings | None,
        run: RunSettings,
        execution: Execution,
        rolling: RollingState,
        seed: int,
    ) -> None:
        self.model, self.execution, self.device = model, execution, execution.device
        self.processes = execution.processes
        self.batches, self.stage, self.loss, self.mining, self.run = batches, stage, loss, mining, run
        self.rolling, self.seed = rolling, seed
        self.optimiser = torch.optim.AdamW(
            model.matcher.parameters(),
            stage.learning_rate,
            betas=(0.9, stage.beta2),
            weight_decay=stage.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.kept = model
        if stage.weights_mean is not None:
            self.kept = SegSwap(model.backbone, copy.deepcopy(model.matcher).requires_grad_(False))
        self.best_weights = self._kept_weights()
        self.at = _Progress()
        self.board = Board(None, 0)
        self.saved_at = time.monotonic()

    def save(self) -> None:
        if self.processes.first:
            plain = {f.name: getattr(self.at, f.name) for f in dataclasses.fields(_Progress)}
            plain["mined"] = self.at.mined.to_plain() if self.at.mined else None
            state = {
                "progress": plain,
                "matcher": self.model.matcher.state_dict(),
                "best": self.best_weights,
                "optimiser": self.optimiser.state_dict(),
            }
            if self.stage.weights_mean is not None:
                state["mean"] = self.kept.matcher.state_dict()
            self.rolling.save(state)
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        # Read once: where a damaged state makes room for the one before it, all must take the same.
        state = self.processes.from_first(self.rolling.load)
        if state is None:
            return
        plain = state["progress"]
        mined = Mined.from_plain(plain["mined"]) if plain["mined"] else None
        self.at = _Progress(**{**plain, "mined": mined})
        self.model.matcher.load_state_dict(state["matcher"])
        if self.stage.weights_mean is not None:
            self.kept.matcher.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best_weights = state["best"]
        self._say(f"resumed at epoch {self.at.epoch}, step {self.at.step}")

    def train(self, validate: Validate, stop: StopRequest) -> None:
        """Train to the end, or save and raise ``Interrupted``."""
        while self.at.epoch < self.stage.epochs:
            steps = self._begin_epoch()
            if steps == 0:
                self._say(f"no hard negatives left before epoch {self.at.epoch}: the stage ends here")
                break
            self._run_epoch(steps, stop)
            self._end_epoch(validate)
            self.save()
            self._stop_if_asked(stop, f"the end of epoch {self.at.epoch}")

    def _begin_epoch(self) -> int:
        """Return the number of steps of the epoch; mine its hard negatives unless a resumed state holds them."""
        if self.mining is None:
            return self.stage.steps_per_epoch
        if self.at.mined is None:
            stylise = self.batches.settings.stylise_probability
            address = self.seed, self.at.epoch
            self.at.mined = mine(self.model, self.batches.sets, self.mining, stylise, address, self.execution)
        if self.at.mined is None:
            return 0
        mined = self.at.mined
        if self.processes.first:
            write_pool(self.rolling.folder, self.at.epoch, self.batches.sets, mined.pool, mined.pairs, mined.scores)
        self.batches.excluded = frozenset((image.which, image.position) for image in mined.pool)
        return min(mined.n_hard, self.mining.max_steps)

    def _run_epoch(self, steps: int, stop: StopRequest) -> None:
        mined = self.at.mined
        pool = pool_features(self.model, self.batches.sets, mined.pool, self.execution) if mined else None
        first = self.at.step
        loader = load_batches(self.batches, first, first + steps - self.at.step_in_epoch, self.run.workers)
        self.model.matcher.train()
        sums: dict[str, float] = {}
        shown = {"total": steps, "initial": self.at.step_in_epoch, "disable": not self.processes.first}
        bar = progress(loader, f"epoch {self.at.epoch}", makes_room=self.run.makes_room, **shown)
        for batch in bar:
            hard = self._hard_negatives(mined, pool) if mined else None
            losses, rate = self._step(batch, hard)
            self.at.step += 1
            self.at.step_in_epoch += 1
            for name, value in _numbers(losses).items():
                sums[name] = sums.get(name, 0.0) + value
            if self.at.step % self.run.log_every == 0:
                count = min(self.run.log_every, self.at.step - first)
                row = {"epoch": self.at.epoch, "step": self.at.step, "learning_rate": rate}
                self._log(row | {name: value / count for name, value in sums.items()})
                bar.set_postfix(loss=f"{sums['loss'] / count:.3f}")
                sums = {}
            if time.monotonic() - self.saved_at > self.run.state_seconds:
                self.save()
            self._stop_if_asked(stop, f"step {self.at.step}")

    def _say(self, line: str) -> None:
        if self.processes.first:
            print(line, flush=True)

    def _log(self, row: Row) -> None:
        self.at.history.append(row)
        self.board.show(row)

    def _stop_if_asked(self, stop: StopRequest, where: str) -> None:
        """Save and raise ``Interrupted`` when any process was asked to stop: all stop after the same step."""
        if self.processes.any(stop.reason is not None, self.device):
            self.save()
            stop.stop(where)

    def _place(self) -> int:
        """Return the number of this process's step among all steps of all processes."""
        return self.at.step * self.processes.count + self.processes.rank

    def _hard_negatives(self, mined: Mined, pool: torch.Tensor) -> HardNegatives:
        chosen = mined.draw(generator(self.seed, "hard", self._place()), self.mining.per_step)
        return HardNegatives(pool[chosen[:, 0]].float(), pool[chosen[:, 1]].float())

    def _step(self, batch: Batch, hard: HardNegatives | None) -> tuple[Losses, float]:
        rate = learning_rate_at(self.stage, self.at.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(torch_seed(self.seed, "dropout", self._place()))
        losses = batch_losses(self.model, batch, self.batches.settings.negatives, self.loss, self.execution, hard)
        if not torch.isfinite(losses.total):
            self._report_not_finite(batch, losses)
        self.optimiser.zero_grad(set_to_none=True)
        # Gradients are averaged over processes, and the shares of the loss add up.
        (losses.total * self.processes.count).backward()
        if self.stage.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.model.matcher.parameters(), self.stage.gradient_clip)
        self.optimiser.step()
        if self.stage.weights_mean is not None:
            self._update_mean(mean_decay_at(self.stage.weights_mean, self.at.step))
        return losses, rate

    def _update_mean(self, decay: float) -> None:
        """Move the running mean towards the weights; every process has the same weights, and so the same mean."""
        mean, weights = (list(model.matcher.parameters()) for model in (self.kept, self.model))
        get_ema_multi_avg_fn(decay)(mean, weights, None)

    def _kept_weights(self) -> dict[str, torch.Tensor]:
        return {k: v.detach().cpu().clone() for k, v in self.kept.matcher.state_dict().items()}

    def _report_not_finite(self, batch: Batch, losses: Losses) -> None:
        report = self.rolling.folder.parent / f"not-finite-{self.processes.rank}.json"
        # As text: JSON knows no NaN.
        numbers = {name: str(value) for name, value in _numbers(losses).items()}
        content = {"epoch": self.at.epoch, "step": self.at.step, "samples": batch.keys, "numbers": numbers}
        write_json(report, content)
        raise InputError(
            f"the loss is {losses.total.item()} at step {self.at.step}, on the samples {batch.keys}, written to "
            f"{report}; the last good state is in {self.rolling.folder}. Look at these samples, or lower the learning "
            "rate"
        )

    def _end_epoch(self, validate: Validate) -> None:
        self.kept.matcher.eval()
        found = self.processes.from_first(lambda: validate(self.kept))
        row = {"epoch": self.at.epoch, "step": self.at.step}
        self._log(row | {f"heldout_{name}": value for name, value in found.numbers.items()})
        if found.picture is not None:
            self.board.picture("held-out pairs", found.picture, self.at.step)
        self._say(f"epoch {self.at.epoch}: " + ", ".join(f"{k} {v:.4f}" for k, v in found.numbers.items()))
        if found.numbers[self.stage.select] > self.at.best:
            self.at.best = found.numbers[self.stage.select]
            self.best_weights = self._kept_weights()
        self.at.epoch += 1
        self.at.step_in_epoch = 0
        self.at.mined = None


def _numbers(losses: Losses) -> dict[str, float]:
    return {
        "loss": losses.total.item(),
        "mask_loss": losses.mask.item(),
        "correspondence_loss": losses.correspondence.item(),
        "accuracy_positive": losses.accuracy_positive.item(),
        "accuracy_negative": losses.accuracy_negative.item(),
    }


def train_stage(
    files: StageFiles,
    stage: StageSettings,
    batch: BatchSettings,
    loss: LossSettings,
    mining: MiningSettings | None,
    numerics: Numerics,
    run: RunSettings,
    seed: int,
    validate: Validate,
) -> None:
    """Train one stage from a checkpoint to a checkpoint; under ``torchrun`` together with the other processes.

    Args:
        files: what is read and written.
        mining: hard negatives; None for stage 1.
        validate: looks at a model after each epoch, in the first process alone.

    Raises:
        InputError: bad input, or a loss that is not finite.
        Interrupted: asked to stop; the state is saved.
    """
    with training_processes(pick_device(run.device)) as (processes, device):
        model, about = load_checkpoint(files.initial)
        model = model.to(device)
        execution = Execution.of(model, device, numerics, processes)
        stores = [FeatureStore(path, model.backbone) for path in files.features] if files.features else None
        batches = PairBatches(files.manifests, batch, seed, stores, processes.rank, processes.count)
        decides = [used_fields(part) for part in (stage, batch, loss, execution.numerics)]
        decides += [used_fields(mining)] if mining else []
        initial = sha256(files.initial)
        read = [initial, [sha256(manifest) for manifest in files.manifests]]
        rolling = RollingState(Path(files.state), content_key([decides, processes.count, seed, read]))
        trainer = _Trainer(model, batches, stage, loss, mining, run, execution, rolling, seed)
        trainer.resume()
        trainer.board = Board(files.board if processes.first else None, trainer.at.step)
        stop = StopRequest(run.time_limit)
        try:
            with execution.numerics.repeatable():
                trainer.train(validate, stop)
        finally:
            stop.close()
            trainer.board.close()
        if not processes.first:
            return
        origin: dict[str, Any] = {
            "stage": 2 if mining else 1,
            "steps": about.get("steps", 0) + trainer.at.step,
            "image_size": batches.sets[0].settings["size"],
            "seed": seed,
            "processes": processes.count,
            "numerics": dataclasses.asdict(execution.numerics),
            "select": stage.select,
            "best": trainer.at.best,
            "initial": initial,
        }
        if stage.weights_mean is not None:
            origin["weights_mean"] = stage.weights_mean
        kept = trainer.kept.cpu()
        save_checkpoint(files.last, kept, {**origin, "epoch": "last"})
        write_text(files.history, history_csv(trainer.at.history))
        if files.pools:
            join_pools(rolling.folder, files.pools)
        kept.matcher.load_state_dict(trainer.best_weights)
        save_checkpoint(files.best, kept, {**origin, "epoch": "best"})
        rolling.remove()
