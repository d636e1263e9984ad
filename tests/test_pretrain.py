"""Pretraining of a trunk: the contrastive loss, and that a resumed run repeats an uninterrupted one."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from segswap.errors import InputError
from segswap.files import content_key, sha256
from segswap.models.backbones.resnet import ResNetSettings
from segswap.models.checkpoint import load_backbone
from segswap.program import Interrupted
from segswap.sampling import cell_centres
from segswap.training.batches import PairBatches
from segswap.training.loop import RunSettings
from segswap.training.pretrain import PretrainSettings, contrastive_loss, pretrain_backbone

TRUNK = ResNetSettings("resnet10", width=8, projection=16)
SETTINGS = PretrainSettings(
    steps=4, pairs=2, learning_rate=1e-3, weight_decay=0.01, temperature=0.1, stylise_probability=0.5
)
RUN = RunSettings(device="cpu", workers=0, state_seconds=1e9, time_limit=None, log_every=1)


def features(seed: int, channels: int, h: int, w: int, batch: int = 2) -> torch.Tensor:
    return F.normalize(torch.randn(batch, channels, h, w, generator=torch.Generator().manual_seed(seed)), dim=1)


def identity(h: int, w: int, batch: int = 2) -> torch.Tensor:
    return cell_centres(h, w)[None].expand(batch, -1, -1, -1)


# The loss


def test_features_that_tell_every_cell_apart_have_almost_no_loss():
    own = features(1, 256, 6, 8)
    assert contrastive_loss(own, own, torch.ones(2, 1, 6, 8), identity(6, 8), 0.05) < 1e-3


def test_random_features_are_as_good_as_guessing():
    own, other = features(1, 512, 6, 8), features(2, 512, 6, 8)
    loss = contrastive_loss(own, other, torch.ones(2, 1, 6, 8), identity(6, 8), 1.0)
    # The positive against 2 x 48 cells less the few around the true place (a cell in the middle: 9).
    assert math.log(97 - 9) - 0.05 < loss < math.log(97 - 4) + 0.05


def test_the_loss_equals_a_loop_over_anchors():
    own, other = features(1, 8, 3, 4), features(2, 8, 5, 4)
    generator = torch.Generator().manual_seed(3)
    mask, corr = torch.rand(2, 1, 3, 4, generator=generator), torch.rand(2, 2, 3, 4, generator=generator)
    losses = []
    for n, _, i, j in (mask > 0.5).nonzero().tolist():
        place = corr[n, :, i, j]
        at = F.grid_sample(other[n : n + 1], (2 * place - 1)[None, None, None], align_corners=False)[0, :, 0, 0]
        logits = [own[n, :, i, j] @ F.normalize(at, dim=0)]
        for m in range(2):
            for row in range(5):
                for column in range(4):
                    far = max(abs(place[0] * 4 - column - 0.5), abs(place[1] * 5 - row - 0.5)) >= 1.5
                    if m != n or far:
                        logits.append(own[n, :, i, j] @ other[m, :, row, column])
        logits = torch.stack(logits) / 0.3
        losses.append(logits.logsumexp(0) - logits[0])
    found = contrastive_loss(own, other, mask, corr, 0.3)
    assert found.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-5)


def test_cells_off_the_mask_are_no_anchors():
    own, other = features(1, 8, 4, 4), features(2, 8, 4, 4)
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 1
    changed = own.clone()
    changed[:, :, 2:] = features(9, 8, 4, 4)[:, :, 2:]
    before = contrastive_loss(own, other, mask, identity(4, 4), 0.1)
    assert contrastive_loss(changed, other, mask, identity(4, 4), 0.1) == before


def test_the_loss_pulls_the_true_place_closer():
    own = features(1, 8, 4, 4).requires_grad_()
    other = features(2, 8, 4, 4)
    contrastive_loss(own, other, torch.ones(2, 1, 4, 4), identity(4, 4), 0.1).backward()
    assert ((own.grad * other).sum(1) < 0).float().mean() > 0.9


# The training


class Pretraining:
    """A pretraining in a folder of its own."""

    def __init__(self, folder: Path, manifests: list[Path]) -> None:
        self.weights, self.history, self.state = folder / "trunk.pt", folder / "history.csv", folder / "state"
        self.manifests = manifests

    def start(self, settings=SETTINGS, **run) -> None:
        pretrain_backbone(
            manifests=self.manifests,
            weights=self.weights,
            history=self.history,
            state=self.state,
            backbone=TRUNK,
            settings=settings,
            run=dataclasses.replace(RUN, **run),
            seed=2,
        )

    def losses(self) -> list[float]:
        return [float(row["loss"]) for row in csv.DictReader(self.history.open())]


def assert_same_result(found: Pretraining, expected: Pretraining) -> None:
    assert found.history.read_text() == expected.history.read_text()
    wanted = load_backbone(expected.weights, TRUNK).state_dict()
    state = load_backbone(found.weights, TRUNK).state_dict()
    assert all(torch.equal(state[name], value) for name, value in wanted.items()), "bit for bit"
    assert not list(found.state.rglob("*.pt"))


@pytest.fixture(scope="module")
def manifests(tiny_world):
    return [tiny_world.pairs["1obj"], tiny_world.pairs["2obj"]]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, manifests):
    pretraining = Pretraining(tmp_path_factory.mktemp("through"), manifests)
    pretraining.start()
    return pretraining


@pytest.fixture
def pretraining(tmp_path, manifests):
    return Pretraining(tmp_path, manifests)


def test_pretraining_stopped_after_every_step_ends_as_if_never_stopped(pretraining, uninterrupted):
    stops = 0
    for _ in range(SETTINGS.steps + 1):
        try:
            pretraining.start(time_limit=1e-9)
            break
        except Interrupted:
            stops += 1
            assert not pretraining.weights.exists()
    assert stops == SETTINGS.steps
    assert_same_result(pretraining, uninterrupted)


@pytest.mark.parametrize("how", ["signal", "kill"])
def test_pretraining_goes_on_from_its_state(pretraining, uninterrupted, monkeypatch, how):
    read = PairBatches.__getitem__

    def reading(self, step):
        if step == 2 and how == "kill":
            raise KeyboardInterrupt
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return read(self, step)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(PairBatches, "__getitem__", reading)
    with pytest.raises(Interrupted if how == "signal" else KeyboardInterrupt):
        pretraining.start(state_seconds=0.0)
    assert signal.getsignal(signal.SIGTERM) == before, "signals are given back"
    monkeypatch.undo()
    pretraining.start()
    assert_same_result(pretraining, uninterrupted)


def test_a_state_has_the_key_that_it_had_before_batches_could_be_changed(pretraining, manifests):
    with pytest.raises(Interrupted):
        pretraining.start(time_limit=1e-9)
    (state,) = pretraining.state.rglob("*.pt")
    batch = {
        "positives": 2,
        "negatives": 0,
        "two_object_share": 0.5,
        "stylise_probability": 0.5,
        "warp_probability": 0.0,
        "warp_grids": (4,),
        "hide_probability": 0.0,
        "swap_probability": 0.0,
    }
    decided = [dataclasses.asdict(TRUNK), dataclasses.asdict(SETTINGS), batch]
    assert state.parent.name == content_key([decided, 2, [sha256(manifest) for manifest in manifests]])


def test_every_weight_and_statistic_of_the_trunk_is_trained(uninterrupted, pretraining):
    other = PretrainSettings(
        steps=6, pairs=2, learning_rate=1e-3, weight_decay=0.01, temperature=0.1, stylise_probability=0.5
    )
    pretraining.start(settings=other)
    first, second = (load_backbone(p.weights, TRUNK).state_dict() for p in (pretraining, uninterrupted))
    assert all(not torch.equal(first[name], value) for name, value in second.items())


def test_the_loss_falls(pretraining):
    longer = PretrainSettings(
        steps=30, pairs=4, learning_rate=1e-2, weight_decay=0.0, temperature=0.1, stylise_probability=0.5
    )
    pretraining.start(settings=longer)
    losses = pretraining.losses()
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])


def test_a_loss_that_is_not_finite_stops_with_the_samples(pretraining):
    wild = PretrainSettings(
        steps=4, pairs=2, learning_rate=1e30, weight_decay=0.0, temperature=0.1, stylise_probability=0.5
    )
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step \d, on the samples .*\.jpg"):
        pretraining.start(settings=wild)
    assert not pretraining.weights.exists() and not pretraining.history.exists()
