"""The learning rate of every step, and the history as a table."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

from segswap.training.history import history_csv
from segswap.training.loop import StageSettings, learning_rate_at

STAGE = StageSettings(
    epochs=3,
    steps_per_epoch=10,
    learning_rate=1e-3,
    beta2=0.999,
    gradient_clip=None,
    warmup_steps=4,
    schedule="step",
    drop_epoch=2,
    drop_factor=0.5,
    select="score",
)


def test_the_rate_warms_up_linearly_from_the_first_step():
    rates = [learning_rate_at(STAGE, step) for step in range(30)]
    assert rates[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert rates[4:20] == pytest.approx([1e-3] * 16)
    assert rates[20:] == pytest.approx([0.5e-3] * 10)


def test_the_released_warm_up_is_ours_two_steps_late(shared):
    facts = json.loads((shared / "golden" / "b_loss.json").read_text())["warmup_lr_used_at_iteration"]
    stage = dataclasses.replace(STAGE, learning_rate=2e-4, warmup_steps=1000, steps_per_epoch=9000, drop_epoch=50)
    assert facts["0"] == 2e-4, "it starts at the full rate, and then from zero: ours does neither"
    assert learning_rate_at(stage, 0) == pytest.approx(2e-7)
    for iteration in (2, 10, 999):
        assert learning_rate_at(stage, iteration - 2) == pytest.approx(facts[str(iteration)])
    assert learning_rate_at(stage, 1000) == facts["first_iteration_after_warmup"]


def test_the_cosine_schedule_falls_to_zero():
    stage = dataclasses.replace(STAGE, schedule="cosine")
    rates = [learning_rate_at(stage, step) for step in range(31)]
    assert max(rates) == rates[4] == pytest.approx(stage.learning_rate)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))
    assert rates[17] == pytest.approx(stage.learning_rate / 2), "half way"
    assert rates[30] == pytest.approx(0, abs=1e-12)
    assert learning_rate_at(stage, 10_000) == pytest.approx(0, abs=1e-12)


def test_no_warm_up_starts_at_the_full_rate():
    assert learning_rate_at(dataclasses.replace(STAGE, warmup_steps=0), 0) == STAGE.learning_rate


def test_the_history_is_a_table_with_gaps():
    text = history_csv([{"step": 1, "loss": 0.5}, {"step": 1, "heldout_score": 0.123456789}])
    assert text == "step,loss,heldout_score\n1,0.5,\n1,,0.123457\n"
