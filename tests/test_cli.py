"""The command ``segswap``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from segswap import cli
from segswap.files import write_bytes
from segswap.images import encode_jpeg, read_image
from segswap.matching.features import extract_features
from segswap.models.backbone import Backbone, BackboneSettings
from segswap.models.checkpoint import save_checkpoint
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings("resnet10", 8, 16))
    matcher = Transformer(TransformerSettings("tiny", 16, 0.0, "matching"))
    save_checkpoint(tmp_path / "model.pt", SegSwap(backbone, matcher), {"stage": 1, "steps": 7})
    return tmp_path / "model.pt"


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(1)
    paths = [tmp_path / name for name in ("a & b.jpg", 'the "second".v2.jpg')]
    for path in paths:
        write_bytes(path, encode_jpeg(rng.integers(0, 255, (70, 90, 3), np.uint8)))
    return paths


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    """Run the command and return its exit status."""
    monkeypatch.setattr("sys.argv", ["segswap", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_match_prints_scores_and_draws(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    checkpoint: Path,
    pictures: list[Path],
) -> None:
    output = tmp_path / "match.jpg"
    assert run(monkeypatch, "match", *pictures, "--checkpoint", checkpoint, "--size", 96, "-o", output) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"score", "score_back", "share_first", "share_second"}
    assert found["score"] >= 0 and 0 <= found["share_first"] <= 1
    assert min(read_image(output).shape[:2]) > 96


def test_match_refuses_what_it_cannot_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkpoint: Path, pictures: list[Path]
) -> None:
    assert "--size 100: expected a positive multiple of 16" in str(
        run(monkeypatch, "match", *pictures, "--checkpoint", checkpoint, "--size", 100)
    )
    assert "nowhere.jpg: cannot be opened" in str(
        run(monkeypatch, "match", pictures[0], tmp_path / "nowhere.jpg", "--checkpoint", checkpoint, "--size", 96)
    )
    assert "no such file; expected a weight file" in str(
        run(monkeypatch, "match", *pictures, "--checkpoint", tmp_path / "none.pt", "--size", 96)
    )


def test_info_describes_checkpoints_and_feature_stores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path
) -> None:
    assert run(monkeypatch, "info", checkpoint) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stage"] == 1 and found["steps"] == 7 and found["transformer"]["size"] == "tiny"
    picture = np.zeros((64, 64, 3), np.uint8)
    backbone = Backbone(BackboneSettings("resnet10", 8, 16)).freeze()
    extract_features(["one", "two"], [lambda: picture] * 2, backbone, (64, 64), tmp_path / "store.npy")
    capsys.readouterr()
    assert run(monkeypatch, "info", tmp_path / "store.npy") == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [2, 16, 4, 4]
    assert "expected a checkpoint" in str(run(monkeypatch, "info", tmp_path / "a.txt"))
