"""The command ``segswap``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from formula_weights import formula_state, key_list

from segswap import cli, sharing
from segswap.config import read_config
from segswap.files import write_bytes, write_json
from segswap.images import read_image
from segswap.matching.features import extract_features
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import save_checkpoint
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.pairs.recipe import KINDS


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    backbone = ResNet(ResNetSettings("resnet10", 8, 16))
    matcher = Transformer(TransformerSettings("tiny", 16, 0.0, "matching"))
    save_checkpoint(tmp_path / "model.pt", SegSwap(backbone, matcher), {"stage": 1, "steps": 7})
    return tmp_path / "model.pt"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    """Run the command and return its exit status."""
    monkeypatch.setattr("sys.argv", ["segswap", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_info_describes_checkpoints_and_feature_stores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path
) -> None:
    assert run(monkeypatch, "info", checkpoint) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stage"] == 1 and found["steps"] == 7 and found["transformer"]["size"] == "tiny"
    picture = np.zeros((64, 64, 3), np.uint8)
    backbone = ResNet(ResNetSettings("resnet10", 8, 16)).freeze()
    extract_features(["one", "two"], [lambda: picture] * 2, backbone, (64, 64), tmp_path / "store.npy")
    capsys.readouterr()
    assert run(monkeypatch, "info", tmp_path / "store.npy") == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [2, 4, 4, 16]
    assert "expected a checkpoint" in str(run(monkeypatch, "info", tmp_path / "a.txt"))


def test_info_says_which_checkpoint_is_the_published_one(
    monkeypatch, capsys, tmp_path: Path, checkpoint: Path, shared: Path
) -> None:
    parts = {"backbone": "backbone_sequential_conv1_to_layer3", "encoder": "encoder_small_1024"}
    content = {part: formula_state(key_list(shared, keys)) for part, keys in parts.items()}
    torch.save({**content, "optimiser": {"state": {}}}, tmp_path / "hard_mining_neg5.pth")
    assert run(monkeypatch, "info", tmp_path / "hard_mining_neg5.pth") == 0
    found = json.loads(capsys.readouterr().out)
    assert "hard_mining_neg5.pth of github.com/XiSHEN0220/SegSwap" in found["published"]
    assert found["transformer"]["size"] == "small" and found["image_size"] == 480
    assert run(monkeypatch, "info", checkpoint) == 0
    assert "published" not in json.loads(capsys.readouterr().out)


@pytest.fixture
def configured(tiny_world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the tiny world is a configured run; the folder is entered."""
    settings = dataclasses.asdict(tiny_world.pair_settings)
    blending = settings.pop("blending")
    config = {
        "run": "tiny",
        "seed": tiny_world.seed,
        "objects": {"train": {"images": str(tiny_world.images)}},
        "style": {"method": "reinhard"},
        "pairs": {
            **settings,
            "stretch": list(settings["stretch"]),
            "jpeg_quality": 95,
            "blending": {"train": blending},
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    complete = read_config("config.yaml")
    for part, source, name in (
        (sharing.objects(complete, "train"), tiny_world.objects, "objects.parquet"),
        (sharing.styles(complete), tiny_world.style_statistics, "statistics.npz"),
    ):
        Path(part.folder).mkdir(parents=True)
        shutil.copy(source, Path(part.folder, name))
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_pair_writes_the_bytes_of_the_shard(monkeypatch, capsys, tiny_world, configured: Path, kind: str) -> None:
    arguments = ("--config", "config.yaml", "--kind", kind, "--index", 17, "-o", "out")
    assert run(monkeypatch, "pair", *arguments) == 0
    pairs = tiny_world.pair_set(kind)
    for member in (*pairs.pictures, "labels.npz", "json"):
        assert (configured / f"out/{kind}-00000017.{member}").read_bytes() == pairs.member(17, member)
    assert read_image(configured / f"out/{kind}-00000017.png").shape[1] > 1000
    assert f"photos: {pairs.photos(17)[0]} into {pairs.photos(17)[1]}" in capsys.readouterr().out


def test_pair_says_what_is_missing(monkeypatch, configured: Path) -> None:
    arguments = ("pair", "--kind", "1obj", "--index", 0, "-o", "out")
    assert "config/config.yaml: not readable as a configuration" in str(run(monkeypatch, *arguments))
    arguments = (*arguments, "--config", "config.yaml")
    assert "--index -1: expected 0 or more" in str(run(monkeypatch, *arguments, "--index", -1))
    found = str(run(monkeypatch, *arguments, "--split", "heldout"))
    assert "results/shared/objects/annotations-" in found and "objects.parquet: not there; make it with `snak" in found
    (configured / "config.yaml").write_text("pairs: {sise: 160}")
    assert "pairs.sise: unknown key; did you mean pairs.size?" in str(run(monkeypatch, *arguments))
    (configured / "config.yaml").write_text("- run")
    assert "expected keys and values in YAML, found list" in str(run(monkeypatch, *arguments))


def test_pairs_verify_leaves_with_1_where_something_is_wrong(monkeypatch, capsys, tiny_world, tmp_path: Path) -> None:
    assert run(monkeypatch, "pairs", "verify", *tiny_world.pairs.values()) == 0
    assert capsys.readouterr().out.count("nothing wrong") == 2
    shutil.copytree(tiny_world.pairs["1obj"].parent, tmp_path / "set")
    (tmp_path / "set/1obj-000001.tar").unlink()
    assert run(monkeypatch, "pairs", "verify", tiny_world.pairs["2obj"], tmp_path / "set") == 1
    said = capsys.readouterr().out
    assert "1obj-000001.tar: missing" in said and "1 problem(s)" in said


def test_export_writes_onnx_and_refuses_what_the_published_form_cannot_hold(
    monkeypatch, capsys, tmp_path: Path, checkpoint: Path
) -> None:
    assert run(monkeypatch, "export", checkpoint, "--form", "onnx", "-o", tmp_path / "onnx") == 0
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {"backbone.onnx", "matcher.onnx"}
    assert str(tmp_path / "onnx" / "matcher.onnx") in capsys.readouterr().out
    said = run(monkeypatch, "export", checkpoint, "--form", "published", "-o", tmp_path / "published.pth")
    assert "the published form holds a plain ResNet-50" in str(said)


def test_unused_names_what_no_run_needs_and_deletes_it_where_told_to(monkeypatch, capsys, configured: Path) -> None:
    part = next((configured / "results/shared/objects").iterdir())
    other = configured / "results/shared/pairs/1obj-0123456789/1obj-000000.tar"
    write_bytes(other, bytes(2_500_000))
    write_json(configured / "results/tiny/shared.json", {"objects/train": f"results/shared/objects/{part.name}"})
    assert run(monkeypatch, "unused") == 0
    said = capsys.readouterr().out
    assert "results/shared/pairs/1obj-0123456789: 2.5 MB\n" in said and part.name not in said
    assert other.exists()
    assert run(monkeypatch, "unused", "--delete") == 0
    assert "1obj-0123456789: 2.5 MB, deleted" in capsys.readouterr().out
    assert not other.exists() and part.exists()
    assert "nowhere: no such folder" in str(run(monkeypatch, "unused", "nowhere"))


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_says_every_default(name: str) -> None:
    commands = next(action for action in cli.argument_parser(name)._actions if action.dest == "command")
    for action in commands.choices[name]._actions:
        has_value = action.nargs != 0 and action.default not in (None, argparse.SUPPRESS) and not action.required
        assert not has_value or "default: " in (action.help or ""), f"segswap {name} {action.option_strings}"


def test_help_lists_all_commands_and_an_unknown_one_is_refused(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in cli.COMMANDS)
    assert run(monkeypatch, "nonsense") == 2
    assert run(monkeypatch, "pairs", "--help") == 0
    assert "verify" in capsys.readouterr().out
