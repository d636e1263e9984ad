"""The program that makes the model where training starts: any architecture, and weights that the seed decides."""

from __future__ import annotations

import dataclasses
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segswap import sharing
from segswap.config import SCHEMA, complete_config, read_schema
from segswap.errors import InputError
from segswap.models.architectures import ARCHITECTURES, architecture_of
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import load_checkpoint, save_backbone
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import torch_seed

ROOT = Path(__file__).parent.parent
TRUNK = {"architecture": "resnet10", "width": 8, "projection": 16}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that runs the program with the JSON of a matcher, and returns the path of its checkpoint."""
    save_backbone(tmp_path / "backbone.pt", ResNet(ResNetSettings(**TRUNK)))
    main = runpy.run_path(str(ROOT / "workflow/scripts/untrained_model.py"))["main"]

    def run(matcher: str, seed: int = 1) -> Path:
        arguments = ["--weights", str(tmp_path / "backbone.pt"), "--backbone", json.dumps(TRUNK), "--matcher", matcher]
        arguments += ["--seed", str(seed), "--checkpoint", str(tmp_path / "untrained.pt")]
        monkeypatch.setattr(sys, "argv", ["untrained_model.py", *arguments])
        main()
        return tmp_path / "untrained.pt"

    return run


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_architecture_of_the_configuration_starts_from_its_own_section(start, architecture: str) -> None:
    config = complete_config({"model": {"architecture": architecture}}, read_schema(SCHEMA))
    model, about = load_checkpoint(start(json.dumps(sharing.matcher_settings(config))))
    assert architecture_of(model.matcher) == architecture and about["seed"] == 1
    settings = dataclasses.asdict(model.matcher.settings)
    assert settings == {**settings, **config[architecture], "channels": 16}


def test_a_transformer_has_the_weights_that_it_had_before_there_was_a_choice(start) -> None:
    torch.manual_seed(torch_seed(7, "transformer"))
    before = Transformer(TransformerSettings("tiny", 16, 0.0, "matching"))
    path = start('{"size": "tiny", "dropout": 0, "initialisation": "matching"}', seed=7)
    found = dict(load_checkpoint(path)[0].matcher.state_dict())
    torch.testing.assert_close(found, dict(before.state_dict()))


def test_an_unknown_architecture_is_refused_with_those_that_are_known(start, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--matcher: architecture is 'oracle'; expected ncnet, transformer"):
        start('{"architecture": "oracle"}')
    assert not (tmp_path / "untrained.pt").exists()


def test_the_configuration_and_the_models_have_the_same_architectures() -> None:
    known = read_schema(SCHEMA)["properties"]["model"]["properties"]["architecture"]["enum"]
    assert set(ARCHITECTURES) == set(known)
