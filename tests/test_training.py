"""The training loop: it learns, it stops in good order, and a resumed run repeats an uninterrupted one bit for bit."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import math
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segswap.benchmarks.pairs import picture_loaders, picture_names
from segswap.commands.info import describe
from segswap.errors import InputError
from segswap.files import content_key, sha256
from segswap.matching.features import extract_features
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import load_checkpoint, save_checkpoint
from segswap.models.ncnet import NcNet, NcNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.pairs.pair_set import PairSet
from segswap.program import Interrupted
from segswap.training.batches import BatchSettings, PairBatches
from segswap.training.loop import (
    RunSettings,
    StageFiles,
    StageSettings,
    Validation,
    learning_rate_at,
    mean_decay_at,
    train_stage,
)
from segswap.training.numerics import Numerics
from segswap.training.photometric import PhotometricSettings
from segswap.training.pools import MiningSettings, read_pools
from segswap.training.step import LossSettings

STAGE = StageSettings(
    epochs=2,
    steps_per_epoch=2,
    learning_rate=1e-3,
    beta2=0.999,
    gradient_clip=None,
    warmup_steps=2,
    schedule="step",
    drop_epoch=1,
    drop_factor=0.5,
    select="score",
)
BATCH = BatchSettings(
    positives=2,
    negatives=2,
    two_object_share=0.5,
    stylise_probability=0.5,
    warp_probability=0.5,
    warp_grids=(4, 6),
    hide_probability=0.5,
    swap_probability=0.5,
)
LOSS = LossSettings(eta=8.0, correspondence_cells="all", transport=True)
# Every pair of an untrained model is hard: stage 2 has work to do.
MINING = MiningSettings(
    pool_size=6,
    crop_scale=(0.5, 1.0),
    zero_below=0.0,
    hard_above=0.01,
    min_hard=2,
    max_pools=2,
    per_step=3,
    max_steps=2,
    scoring_batch=16,
)
PHOTOMETRIC = PhotometricSettings(gain=0.3, gamma=0.3, contrast=0.3, saturation=0.3, grey=0.3, blur=0.3, noise=0.1)
# All that was not published.
ABLE = dataclasses.replace(STAGE, weight_decay=0.1, weights_mean=0.2)
CHANGED = dataclasses.replace(BATCH, photometric=PHOTOMETRIC)
NUMERICS = Numerics()
RUN = RunSettings(device="cpu", workers=0, state_seconds=1e9, time_limit=None, log_every=1)
STAGES = {"stage 1": None, "stage 2": MINING}


class HardKill(BaseException):
    """What a test raises where a machine would die."""


def probe_score(model: SegSwap) -> Validation:
    """A validation that depends on the weights: their mean, absolute."""
    assert not model.matcher.training
    weights = torch.cat([parameter.flatten() for parameter in model.matcher.parameters()])
    return Validation({"score": weights.abs().mean().item()})


def write_initial(folder: Path, make: Callable[[int], torch.nn.Module]) -> Path:
    """Write an untrained model with the matcher that ``make`` gives for a number of channels."""
    torch.manual_seed(1)
    trunk = ResNet(ResNetSettings("resnet10", width=8))
    path = folder / "initial.pt"
    save_checkpoint(path, SegSwap(trunk, make(trunk.channels)), {"steps": 10})
    return path


@pytest.fixture(scope="module")
def initial(tmp_path_factory):
    def transformer(channels: int) -> Transformer:
        return Transformer(TransformerSettings("tiny", channels, initialisation="matching"))

    return write_initial(tmp_path_factory.mktemp("initial"), transformer)


@pytest.fixture(scope="module")
def initial_ncnet(tmp_path_factory):
    return write_initial(tmp_path_factory.mktemp("initial"), lambda channels: NcNet(NcNetSettings(channels, 5, 4)))


class Training:
    """A training in a folder of its own, started as often as a test likes."""

    def __init__(self, folder: Path, initial: Path, manifests: list[Path]) -> None:
        self.folder, self.initial, self.manifests = folder, initial, manifests
        self.checkpoint, self.history = folder / "stage.pt", folder / "history.csv"
        self.last, self.pools = folder / "last.pt", folder / "pools.parquet"
        self.state, self.board = folder / "state", None

    def start(
        self, stage=STAGE, mining=None, validate=probe_score, batch=BATCH, seed=3, numerics=NUMERICS, **run
    ) -> None:
        files = StageFiles(
            initial=self.initial,
            manifests=self.manifests,
            features=None,
            best=self.checkpoint,
            last=self.last,
            history=self.history,
            state=self.state,
            pools=self.pools if mining else None,
            board=self.board,
        )
        train_stage(files, stage, batch, LOSS, mining, numerics, dataclasses.replace(RUN, **run), seed, validate)

    def start_and_stop(self, **settings) -> None:
        """Stop after every step until it is through."""
        for _ in range(8):
            try:
                self.start(**settings, time_limit=1e-9)
                break
            except Interrupted as reason:
                assert "time limit" in str(reason)

    def weights(self) -> dict[str, torch.Tensor]:
        return load_checkpoint(self.checkpoint)[0].matcher.state_dict()

    def rows(self) -> list[dict[str, str]]:
        return list(csv.DictReader(self.history.open()))

    def states(self) -> list[Path]:
        return sorted(self.state.rglob("*.pt"))


def assert_same_result(found: Training, expected: Training) -> None:
    assert found.history.read_text() == expected.history.read_text()
    assert load_checkpoint(found.checkpoint)[1] == load_checkpoint(expected.checkpoint)[1]
    for path, other in ((found.checkpoint, expected.checkpoint), (found.last, expected.last)):
        weights, wanted = (load_checkpoint(each)[0].matcher.state_dict() for each in (path, other))
        assert all(torch.equal(weights[name], value) for name, value in wanted.items()), "bit for bit"
    assert found.pools.exists() == expected.pools.exists()
    if expected.pools.exists():
        assert pq.read_table(found.pools).equals(pq.read_table(expected.pools))


@pytest.fixture(scope="module")
def manifests(tiny_world):
    return [tiny_world.pairs["1obj"], tiny_world.pairs["2obj"]]


@pytest.fixture
def training(tmp_path, initial, manifests):
    return Training(tmp_path / "own", initial, manifests)


def run_through(folder: Path, initial: Path, manifests: list[Path], **settings) -> dict[str, Training]:
    """Run both stages without a stop."""
    trainings = {name: Training(folder / name, initial, manifests) for name in STAGES}
    for name, mining in STAGES.items():
        trainings[name].start(mining=mining, **settings)
    return trainings


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, initial, manifests):
    """Both stages, run through."""
    return run_through(tmp_path_factory.mktemp("through"), initial, manifests)


@pytest.fixture(scope="module")
def able(tmp_path_factory, initial, manifests):
    """The same with weight decay, a running mean and photometric changes."""
    return run_through(tmp_path_factory.mktemp("able"), initial, manifests, stage=ABLE, batch=CHANGED)


def act_at_step(monkeypatch, wanted: int, action) -> None:
    """Run ``action`` when the batch of a step, counted from 0, is read for the first time."""
    read, done = PairBatches.__getitem__, []

    def reading(self, step):
        if step == wanted and not done:
            done.append(step)
            action()
        return read(self, step)

    monkeypatch.setattr(PairBatches, "__getitem__", reading)


def terminate_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def die() -> None:
    raise HardKill


# Resuming


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("step", [0, 2])
def test_a_training_stopped_by_a_signal_goes_on_as_if_never_stopped(training, uninterrupted, monkeypatch, stage, step):
    act_at_step(monkeypatch, step, terminate_self)
    with pytest.raises(Interrupted, match=rf"SIGTERM at step {step + 1}; state saved"):
        training.start(mining=STAGES[stage])
    assert not training.checkpoint.exists() and training.states()
    training.start(mining=STAGES[stage])
    assert_same_result(training, uninterrupted[stage])
    assert not training.states(), "removed once the checkpoint is there"


@pytest.mark.parametrize("stage", STAGES)
def test_a_training_stopped_after_every_step_ends_as_if_never_stopped(training, uninterrupted, stage):
    training.start_and_stop(mining=STAGES[stage])
    assert_same_result(training, uninterrupted[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_weight_decay_running_mean_and_photometric_changes_go_on_as_if_never_stopped(
    training, able, uninterrupted, stage
):
    training.start_and_stop(stage=ABLE, batch=CHANGED, mining=STAGES[stage])
    assert_same_result(training, able[stage])
    assert able[stage].history.read_text() != uninterrupted[stage].history.read_text()


def test_an_nc_net_goes_through_both_stages_also_where_it_is_stopped_after_every_step(
    tmp_path, initial_ncnet, manifests
):
    initial = initial_ncnet
    for stage, mining in STAGES.items():
        through, stopped = (Training(tmp_path / stage / name, initial, manifests) for name in ("through", "stopped"))
        through.start(mining=mining)
        stopped.start_and_stop(mining=mining)
        assert_same_result(stopped, through)
        losses = [float(row["loss"]) for row in through.rows() if row["loss"]]
        assert len(losses) == 4 and all(map(math.isfinite, losses))
        model, about = load_checkpoint(through.last)
        assert type(model.matcher) is NcNet and about["stage"] == list(STAGES).index(stage) + 1
        before = load_checkpoint(initial)[0].matcher.state_dict()
        assert all(not torch.equal(value, before[name]) for name, value in model.matcher.state_dict().items())
        initial = through.checkpoint


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("state_seconds", [0.0, 1e9], ids=["saved each step", "saved each epoch"])
def test_a_killed_training_goes_on_from_its_rolling_state(training, uninterrupted, monkeypatch, stage, state_seconds):
    act_at_step(monkeypatch, 3, die)
    with pytest.raises(HardKill):
        training.start(mining=STAGES[stage], state_seconds=state_seconds)
    assert not training.checkpoint.exists() and training.states()
    training.start(mining=STAGES[stage])
    assert_same_result(training, uninterrupted[stage])


def test_a_resumed_epoch_keeps_its_hard_negatives(training, monkeypatch, capsys):
    act_at_step(monkeypatch, 0, terminate_self)
    with pytest.raises(Interrupted):
        training.start(mining=MINING)
    assert "epoch 0: pool 0" in capsys.readouterr().out
    training.start(mining=MINING)
    resumed = capsys.readouterr().out
    assert "epoch 0: pool" not in resumed and "epoch 1: pool 0" in resumed


def test_a_signal_during_validation_stops_at_the_end_of_the_epoch(training, uninterrupted):
    def validate(model):
        terminate_self()
        return probe_score(model)

    with pytest.raises(Interrupted, match="SIGTERM at the end of epoch 1"):
        training.start(validate=validate)
    training.start()
    assert_same_result(training, uninterrupted["stage 1"])


@pytest.mark.parametrize("damage", [b"no state at all", None], ids=["foreign", "cut short"])
def test_a_damaged_state_falls_back_to_the_one_before(training, uninterrupted, monkeypatch, damage, capsys):
    act_at_step(monkeypatch, 3, die)
    with pytest.raises(HardKill):
        training.start(state_seconds=0.0)
    (last,) = (path for path in training.states() if path.name == "state.pt")
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    training.start()
    assert "state not usable, trying the one before" in capsys.readouterr().out
    assert_same_result(training, uninterrupted["stage 1"])


def test_without_a_usable_state_a_training_starts_anew_and_says_so(training, uninterrupted, monkeypatch, capsys):
    act_at_step(monkeypatch, 3, die)
    with pytest.raises(HardKill):
        training.start(state_seconds=0.0)
    assert len(training.states()) == 2
    for path in training.states():
        whole = path.read_bytes()
        # A bad sector in the middle of the numbers: PyTorch itself would read it.
        place = len(whole) // 2
        path.write_bytes(whole[:place] + bytes(byte ^ 1 for byte in whole[place : place + 512]) + whole[place + 512 :])
    training.start()
    said = capsys.readouterr().out
    assert said.count("state not usable") == 2 and "the training starts anew" in said and "resumed" not in said
    assert_same_result(training, uninterrupted["stage 1"])


def test_a_training_whose_snakemake_has_ended_stops_with_its_state_and_writes_nothing(
    training, uninterrupted, monkeypatch
):
    # Shell and Snakemake; the shell of an orphan is adopted by process 1.
    above = [20, 10]
    monkeypatch.setattr("segswap.starter._STARTER", 10)
    monkeypatch.setattr("segswap.starter._ancestors", lambda: iter(above))

    def validate(model):
        above[1] = 1
        return probe_score(model)

    with pytest.raises(Interrupted, match="the Snakemake that started this training has ended at the end of epoch 1"):
        training.start(stage=dataclasses.replace(STAGE, epochs=1), validate=validate)
    assert training.states() and not training.checkpoint.exists() and not training.history.exists()
    above[1] = 10
    with pytest.raises(Interrupted):
        training.start(validate=validate)
    above[1] = 10
    training.start()
    assert_same_result(training, uninterrupted["stage 1"])


def test_a_changed_setting_does_not_take_up_the_old_state(training, tmp_path, initial, manifests, capsys):
    changed = dataclasses.replace(STAGE, learning_rate=5e-4)
    through = Training(tmp_path / "through", initial, manifests)
    through.start(stage=changed)
    with pytest.raises(Interrupted):
        training.start(time_limit=1e-9)
    capsys.readouterr()
    training.start(stage=changed)
    assert "resumed" not in capsys.readouterr().out
    assert_same_result(training, through)


def test_how_a_training_runs_does_not_change_its_result(training, uninterrupted):
    training.start(workers=1, state_seconds=0.0)
    assert_same_result(training, uninterrupted["stage 1"])


def test_signals_are_given_back(training):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        training.start(time_limit=1e-9)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# What comes out


def test_the_checkpoint_says_where_it_comes_from(uninterrupted):
    for number, (stage, mining) in enumerate(STAGES.items(), 1):
        _, about = load_checkpoint(uninterrupted[stage].checkpoint)
        steps = 4 if mining is None else 2 * MINING.max_steps
        assert (about["stage"], about["steps"], about["seed"], about["select"]) == (number, 10 + steps, 3, "score")
        assert about["best"] > 0 and len(about["initial"]) == 64
        assert about["image_size"] == 128, "the side of the training pairs"


def test_the_history_has_a_row_for_each_step_and_each_validation(uninterrupted):
    rows = uninterrupted["stage 1"].rows()
    assert [(row["epoch"], row["step"], bool(row["heldout_score"])) for row in rows] == [
        ("0", "1", False),
        ("0", "2", False),
        ("0", "2", True),
        ("1", "3", False),
        ("1", "4", False),
        ("1", "4", True),
    ]
    rates = [float(row["learning_rate"]) for row in rows if row["learning_rate"]]
    assert rates == pytest.approx([learning_rate_at(STAGE, step) for step in range(4)])
    for row in rows:
        if row["loss"]:
            parts = float(row["mask_loss"]) + 8 * float(row["correspondence_loss"])
            assert float(row["loss"]) == pytest.approx(parts, rel=1e-4)


@pytest.mark.parametrize(("scores", "best"), [((1.0, 3.0, 2.0), 1), ((3.0, 2.0, 1.0), 0), ((1.0, 2.0, 3.0), 2)])
def test_the_best_epoch_is_kept(training, scores, best):
    seen = []

    def validate(model):
        seen.append({name: value.clone() for name, value in model.matcher.state_dict().items()})
        return Validation({"score": scores[len(seen) - 1], "other": 0.0})

    training.start(stage=dataclasses.replace(STAGE, epochs=3, steps_per_epoch=1), validate=validate)
    weights = training.weights()
    assert all(torch.equal(weights[name], value) for name, value in seen[best].items())
    assert load_checkpoint(training.checkpoint)[1]["best"] == scores[best]
    last, about = load_checkpoint(training.last)
    assert all(torch.equal(value, seen[-1][name]) for name, value in last.matcher.state_dict().items())
    assert (about["epoch"], load_checkpoint(training.checkpoint)[1]["epoch"]) == ("last", "best")


def test_training_changes_the_matcher_and_never_the_trunk(training, initial):
    training.start()
    before, after = load_checkpoint(initial)[0], load_checkpoint(training.checkpoint)[0]
    pairs = zip(before.backbone.state_dict().values(), after.backbone.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(before.matcher.state_dict().values(), after.matcher.state_dict().values(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs)


def first_pairs(manifest: Path, count: int, folder: Path) -> Path:
    """Return the manifest of a set that holds the first pairs of another; the shard's file is the same."""
    content = json.loads(manifest.read_text())
    shard = content["shards"][0]
    folder.mkdir(parents=True)
    (folder / shard["shard"]).symlink_to(manifest.parent / shard["shard"])
    rows = Path(shard["shard"]).with_suffix(".parquet")
    pq.write_table(pq.read_table(manifest.parent / rows).slice(0, count), folder / rows)
    path = folder / manifest.name
    path.write_text(json.dumps({**content, "shards": [{**shard, "pairs": count}]}))
    return path


def without_dropout(initial: Path, path: Path) -> Path:
    """Write an initial transformer that has no dropout."""
    model, about = load_checkpoint(initial)
    matcher = Transformer(dataclasses.replace(model.matcher.settings, dropout=0.0))
    matcher.load_state_dict(model.matcher.state_dict())
    save_checkpoint(path, SegSwap(model.backbone, matcher), about)
    return path


# An Nc-Net has few weights and takes larger steps.
@pytest.mark.parametrize(("architecture", "learning_rate"), [("transformer", 1e-3), ("ncnet", 1e-2)])
def test_the_loss_falls_on_pairs_that_are_seen_again_and_again(
    training, initial_ncnet, tmp_path, manifests, architecture, learning_rate
):
    training.manifests = [first_pairs(manifest, 2, tmp_path / manifest.parent.name) for manifest in manifests]
    transformer = without_dropout(training.initial, tmp_path / "without dropout.pt")
    training.initial = {"transformer": transformer, "ncnet": initial_ncnet}[architecture]
    still = dataclasses.replace(
        BATCH,
        two_object_share=0,
        stylise_probability=0,
        warp_probability=0,
        hide_probability=0,
        swap_probability=0,
    )
    schedule = {"learning_rate": learning_rate, "drop_epoch": 2, "warmup_steps": 5}
    stage = dataclasses.replace(STAGE, epochs=1, steps_per_epoch=40, **schedule)
    training.start(stage=stage, batch=still)
    losses = [float(row["loss"]) for row in training.rows() if row["loss"]]
    assert losses[-1] < 0.5 * losses[0]


def test_hard_negatives_leave_their_pairs_out_of_the_positives(training, monkeypatch):
    seen = []
    read = PairBatches.__getitem__

    def reading(self, step):
        seen.append((self.excluded, self.positions(step)))
        return read(self, step)

    monkeypatch.setattr(PairBatches, "__getitem__", reading)
    training.start(mining=MINING)
    assert len(seen) == 4
    for excluded, positions in seen:
        assert len(excluded) == MINING.pool_size
        assert not excluded & set(positions)
    assert seen[0][0] != seen[-1][0], "each epoch has a pool of its own"


def test_a_stage_without_hard_negatives_ends_with_its_initial_weights(training, initial, capsys):
    training.start(mining=dataclasses.replace(MINING, hard_above=2.0))
    assert "no hard negatives left before epoch 0" in capsys.readouterr().out
    before, after = load_checkpoint(initial)[0].matcher.state_dict(), training.weights()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_loss_that_is_not_finite_stops_with_the_samples_and_writes_nothing(training, tmp_path, initial):
    model, about = load_checkpoint(initial)
    with torch.no_grad():
        model.matcher.net.feat_proj.weight[0, 0] = math.nan
    training.initial = tmp_path / "broken.pt"
    save_checkpoint(training.initial, model, about)
    with pytest.raises(InputError, match=r"the loss is nan at step 0, on the samples .*1obj.*\.jpg"):
        training.start()
    assert not training.checkpoint.exists() and not training.history.exists()
    report = json.loads((training.state / "not-finite-0.json").read_text())
    assert report["step"] == 0 and report["numbers"]["loss"] == "nan"
    assert [[name.split("-")[0] for name in pair] for pair in report["samples"]] == [["1obj"] * 2, ["2obj"] * 2]


# What a training shows


def test_the_scored_pools_of_every_epoch_are_kept(uninterrupted, manifests):
    """With the pictures that they show, the hardest first."""
    rows = list(read_pools(uninterrupted["stage 2"].pools))
    assert {epoch for epoch, *_ in rows} == {0, 1}
    for wanted in (0, 1):
        scores = [score for epoch, score, *_ in rows if epoch == wanted]
        assert scores == sorted(scores, reverse=True) and len(scores) > MINING.min_hard
    keys = pq.read_table(uninterrupted["stage 2"].pools, columns=["first_key", "second_key"])
    assert not any(row["first_key"] == row["second_key"] for row in keys.to_pylist())


def test_tensorboard_shows_every_number_of_the_history_and_a_picture_of_each_validation(training):
    """Also where the training was interrupted, nothing stands there twice."""
    picture = np.zeros((20, 30, 3), np.uint8)

    def validate(model):
        return dataclasses.replace(probe_score(model), picture=picture)

    training.board = training.folder / "board"
    with pytest.raises(Interrupted):
        training.start(validate=validate, time_limit=1e-9)
    training.start(validate=validate)
    events = EventAccumulator(str(training.board))
    events.Reload()
    for row in training.rows():
        for name, value in row.items():
            if value and name not in ("epoch", "step"):
                tag = f"heldout/{name[8:]}" if name.startswith("heldout") else f"training/{name}"
                shown = {event.step: event.value for event in events.Scalars(tag)}
                assert len(shown) == len(events.Scalars(tag))
                assert shown[int(row["step"])] == pytest.approx(float(value), rel=1e-5)
    assert [image.step for image in events.Images("held-out pairs")] == [2, 4]


# Weight decay


def adam(parameters, *values, weight_decay, **named) -> torch.optim.Optimizer:
    """The optimiser of old, in place of AdamW."""
    assert weight_decay == 0
    return torch.optim.Adam(parameters, *values, **named)


def test_without_weight_decay_the_optimiser_is_adam_bit_for_bit(training, uninterrupted, monkeypatch):
    monkeypatch.setattr(torch.optim, "AdamW", adam)
    training.start()
    assert_same_result(training, uninterrupted["stage 1"])


def test_a_state_from_before_there_was_weight_decay_goes_on(training, uninterrupted, monkeypatch, initial, manifests):
    """Its optimiser was Adam, and its key did not know of settings that came later."""
    with monkeypatch.context() as before, pytest.raises(Interrupted):
        before.setattr(torch.optim, "AdamW", adam)
        training.start(time_limit=1e-9)
    (state,) = training.states()
    came_later = ("weight_decay", "weights_mean", "photometric")
    decided = [dataclasses.asdict(part) for part in (STAGE, BATCH, LOSS, NUMERICS.on(torch.device("cpu")))]
    decided = [{name: value for name, value in part.items() if name not in came_later} for part in decided]
    read = [sha256(initial), [sha256(manifest) for manifest in manifests]]
    assert state.parent.name == content_key([decided, 1, 3, read])
    training.start()
    assert_same_result(training, uninterrupted["stage 1"])


def test_weight_decay_takes_its_share_of_every_weight(tmp_path, initial, manifests):
    found = []
    for decay in (0.0, 0.1):
        training = Training(tmp_path / str(decay), initial, manifests)
        one_step = dataclasses.replace(STAGE, epochs=1, steps_per_epoch=1, warmup_steps=0, weight_decay=decay)
        training.start(stage=one_step)
        found.append(training.weights())
    for name, before in load_checkpoint(initial)[0].matcher.state_dict().items():
        torch.testing.assert_close(found[1][name], found[0][name] - STAGE.learning_rate * 0.1 * before)


# The running mean of the weights


@pytest.fixture
def taken_steps(monkeypatch) -> list[list[torch.Tensor]]:
    """The weights after every step of the optimiser."""
    steps: list[list[torch.Tensor]] = []
    step = torch.optim.AdamW.step

    def recording(self):
        step(self)
        steps.append([weight.detach().clone() for group in self.param_groups for weight in group["params"]])

    monkeypatch.setattr(torch.optim.AdamW, "step", recording)
    return steps


def running_means(initial: Path, steps: list[list[torch.Tensor]], decay: float) -> list[list[torch.Tensor]]:
    """Return the mean after every step; it starts with the initial weights."""
    means = [list(load_checkpoint(initial)[0].matcher.parameters())]
    for step, weights in enumerate(steps):
        kept = min(decay, (1 + step) / (10 + step))
        means.append([kept * mean + (1 - kept) * weight for mean, weight in zip(means[-1], weights, strict=True)])
    return means[1:]


def assert_close_weights(path: Path, expected: list[torch.Tensor]) -> None:
    torch.testing.assert_close(list(load_checkpoint(path)[0].matcher.parameters()), expected)


@pytest.mark.parametrize("stage", STAGES)
def test_the_running_mean_is_what_is_validated_chosen_and_saved(training, initial, uninterrupted, taken_steps, stage):
    validated = []

    def validate(model):
        validated.append({name: value.clone() for name, value in model.matcher.state_dict().items()})
        return Validation({"score": 2.0 - len(validated)})

    training.start(stage=dataclasses.replace(STAGE, weights_mean=0.2), mining=STAGES[stage], validate=validate)
    means = running_means(initial, taken_steps, 0.2)
    assert len(means) == 4
    assert_close_weights(training.checkpoint, means[1])
    assert_close_weights(training.last, means[3])
    for path, wanted in ((training.checkpoint, validated[0]), (training.last, validated[1])):
        model, about = load_checkpoint(path)
        assert all(torch.equal(value, wanted[name]) for name, value in model.matcher.state_dict().items())
        assert about["weights_mean"] == 0.2
    assert "weights_mean" not in load_checkpoint(uninterrupted[stage].checkpoint)[1]
    # Training went on with the weights themselves.
    assert_close_weights(uninterrupted[stage].last, taken_steps[-1])
    losses = [[row["loss"] for row in each.rows()] for each in (training, uninterrupted[stage])]
    assert losses[0] == losses[1]


def test_a_young_mean_forgets_faster():
    decays = [mean_decay_at(0.998, step) for step in range(6000)]
    assert decays[:3] == pytest.approx([1 / 10, 2 / 11, 3 / 12])
    assert decays == sorted(decays) and decays[4480] < 0.998 and decays[4500:] == [0.998] * 1500


# The program


def test_the_program_trains_with_all_of_them(training, able, tmp_path, manifests, taken_steps, monkeypatch):
    trunk = load_checkpoint(training.initial)[0].backbone
    stores = [tmp_path / f"{manifest.parent.name}.npy" for manifest in manifests]
    for manifest, store in zip(manifests, stores, strict=True):
        pairs = PairSet(manifest)
        extract_features(picture_names(pairs, 4), picture_loaders(pairs, 4), trunk, (128, 128), store)
    flags = {
        "--initial": [training.initial],
        "--manifests": manifests,
        "--heldout": manifests,
        "--heldout-features": stores,
        "--validation-pairs": [4],
        "--protocol": ["corrected"],
        "--stage": [json.dumps({**dataclasses.asdict(ABLE), "select": "roc_auc"})],
        "--batch": [json.dumps(dataclasses.asdict(CHANGED))],
        "--loss": [json.dumps(dataclasses.asdict(LOSS))],
        "--numerics": [json.dumps(dataclasses.asdict(NUMERICS))],
        "--compute": [json.dumps(dataclasses.asdict(RUN))],
        "--seed": [3],
        "--state": [training.state],
        "--checkpoint": [training.checkpoint],
        "--last": [training.last],
        "--history": [training.history],
    }
    arguments = [str(word) for name, values in flags.items() for word in (name, *values)]
    monkeypatch.setattr(sys, "argv", ["train_stage.py", *arguments])
    runpy.run_path(str(Path(__file__).parent.parent / "workflow/scripts/train_stage.py"))["main"]()
    means = running_means(training.initial, taken_steps, 0.2)
    scores = [float(row["heldout_roc_auc"]) for row in training.rows() if row["heldout_roc_auc"]]
    assert_close_weights(training.checkpoint, means[1 if scores[0] >= scores[1] else 3])
    assert_close_weights(training.last, means[3])
    assert describe(str(training.checkpoint))["weights_mean"] == 0.2
    losses = [[row["loss"] for row in each.rows()] for each in (training, able["stage 1"])]
    assert losses[0] == losses[1], "as without the program"


# Number formats


def test_bfloat16_trains_with_losses_and_weights_in_float32(training, uninterrupted):
    training.start(numerics=Numerics(precision="bfloat16"))
    found, wanted = training.weights(), uninterrupted["stage 1"].weights()
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert load_checkpoint(training.checkpoint)[1]["numerics"]["precision"] == "bfloat16"
    # Another arithmetic, the same training.
    assert any(not torch.equal(found[name], value) for name, value in wanted.items())
    for name in ("loss", "mask_loss", "correspondence_loss"):
        numbers = [[float(row[name]) for row in rows if row[name]] for rows in
                   (training.rows(), uninterrupted["stage 1"].rows())]  # fmt: skip
        assert numbers[0] == pytest.approx(numbers[1], rel=0.03)


def test_a_compiled_matcher_trains_as_the_plain_one(training, uninterrupted, monkeypatch):
    """The graphs that torch.compile captures, without the kernels, which take minutes to build on a CPU."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    training.start(numerics=Numerics(compile="always"))
    assert load_checkpoint(training.checkpoint)[1]["numerics"]["compile"] == "always"
    for name, value in uninterrupted["stage 1"].weights().items():
        torch.testing.assert_close(training.weights()[name], value, rtol=0, atol=1e-5)


def test_an_nc_net_trains_with_every_numerics(tmp_path, initial_ncnet, manifests, monkeypatch):
    """Compiled it is as it was, bit for bit, as nothing of it is; in bfloat16 it has rounded features."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    trained = []
    for numerics in (NUMERICS, Numerics(compile="always"), Numerics("bfloat16", "always", "never")):
        trained.append(Training(tmp_path / str(len(trained)), initial_ncnet, manifests))
        trained[-1].start(numerics=numerics)
    plain, compiled, rounded = trained
    assert compiled.history.read_text() == plain.history.read_text()
    assert all(torch.equal(value, plain.weights()[name]) for name, value in compiled.weights().items())
    assert {value.dtype for value in rounded.weights().values()} == {torch.float32}
    losses = [[float(row["loss"]) for row in each.rows() if row["loss"]] for each in (plain, rounded)]
    assert losses[1] != losses[0] and losses[1] == pytest.approx(losses[0], rel=0.1)


def test_automatic_numerics_are_exact_on_a_cpu_and_fast_on_a_gpu():
    assert Numerics().on(torch.device("cpu")) == Numerics("float32", "never", "always")
    assert Numerics().on(torch.device("cuda")) == Numerics("bfloat16", "always", "never")
    asked = Numerics("bfloat16", "never", "always")
    assert asked.on(torch.device("cpu")) == asked.on(torch.device("cuda")) == asked


def test_deterministic_algorithms_are_asked_for_while_training_only(training):
    seen = []

    def validate(model):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return probe_score(model)

    training.start(validate=validate)
    assert seen == [True, True] and not torch.are_deterministic_algorithms_enabled()
