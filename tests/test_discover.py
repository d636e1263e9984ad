"""``segswap discover``: any folder of images, from features to the page of clusters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from segswap import cli
from segswap.discovery.clusters import CORRESPONDENCES, REGIONS
from segswap.images import encode_jpeg
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import save_checkpoint
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator

SEEN_BY_AN_UNTRAINED_MODEL = ("--side", 96, "--min-share", 0, "--mask-threshold", 0.3, "--clusters", 3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    backbone = ResNet(ResNetSettings("resnet10", 8, 16))
    matcher = Transformer(TransformerSettings("tiny", 16, 0.0, "matching"))
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_checkpoint(path, SegSwap(backbone, matcher), {"stage": 1, "steps": 7})
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five pictures of noise that show one checkered square, under names that have to be escaped."""
    root = tmp_path / "my pictures"
    root.mkdir()
    square = np.kron(np.indices((6, 6)).sum(0) % 2, np.ones((6, 6)))[..., None] * np.array([255, 200, 0])
    for number in range(5):
        rng = generator(number, "discover")
        picture = rng.integers(60, 120, (90, 110, 3), np.uint8)
        top, left = rng.integers(0, 54), rng.integers(0, 74)
        picture[top : top + 36, left : left + 36] = square
        (root / f'no. {number} & "more" <b>.jpg').write_bytes(encode_jpeg(picture))
    return root


def run(monkeypatch, *arguments: object) -> int | str | None:
    """Run the command and return its exit status, or what it says when it fails."""
    monkeypatch.setattr("sys.argv", ["segswap", "discover", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_a_folder_gives_clusters_as_page_json_and_parquet(monkeypatch, capsys, tmp_path, folder, checkpoint):
    out = tmp_path / "out"
    assert run(monkeypatch, folder, "-o", out, "--checkpoint", checkpoint, *SEEN_BY_AN_UNTRAINED_MODEL) == 0
    said = capsys.readouterr().out
    assert "5 images, 10 pairs that share something" in said and f"regions: {out / 'index.html'}" in said
    regions = pq.read_table(out / "regions.parquet")
    assert regions.schema.equals(REGIONS) and 1 <= max(regions["cluster"].to_pylist()) <= 3
    names = {path.name for path in folder.iterdir()}
    assert set(regions["image"].to_pylist()) <= names
    assert all(0 <= x1 < x2 <= 110 and 0 <= y1 < y2 <= 90 for x1, y1, x2, y2 in regions["box"].to_pylist())
    correspondences = pq.read_table(out / "correspondences.parquet")
    assert correspondences.schema.equals(CORRESPONDENCES) and len(correspondences)
    clusters = json.loads((out / "clusters.json").read_text())["clusters"]
    assert sum(len(cluster["regions"]) for cluster in clusters) == len(regions)
    page = (out / "index.html").read_text()
    assert "<b>.jpg" not in page and "&lt;b&gt;.jpg" in page
    assert page.count('<section id="cluster-') == len(clusters)
    assert not list(out.glob(".*")), "nothing half written"


def test_predictions_are_kept_for_another_sigma_and_made_again_for_another_folder(
    monkeypatch, capsys, tmp_path, folder, checkpoint
):
    arguments = (folder, "-o", tmp_path / "out", "--checkpoint", checkpoint, *SEEN_BY_AN_UNTRAINED_MODEL)
    assert run(monkeypatch, *arguments) == 0
    first = capsys.readouterr().out
    predictions = (tmp_path / "out/predictions.npz").stat().st_mtime_ns
    assert run(monkeypatch, *arguments, "--sigma", 0.8) == 0
    second = capsys.readouterr().out
    assert "predictions of an earlier run are used" in second and "predictions of an earlier" not in first
    assert (tmp_path / "out/predictions.npz").stat().st_mtime_ns == predictions
    assert first.splitlines()[-2] != second.splitlines()[-2], "another number of edges"
    next(folder.iterdir()).unlink()
    assert run(monkeypatch, *arguments) == 0
    third = capsys.readouterr().out
    assert "predictions of an earlier" not in third and "4 images" in third


def test_fewer_candidates_are_fewer_pairs(monkeypatch, capsys, tmp_path, folder, checkpoint):
    arguments = (folder, "-o", tmp_path / "out", "--checkpoint", checkpoint, *SEEN_BY_AN_UNTRAINED_MODEL)
    assert run(monkeypatch, *arguments, "--candidates", 1, "--windows", 2, "--flip") == 0
    note = json.loads((tmp_path / "out/predictions.json").read_text())
    assert 3 <= note["candidates"] <= 5


def test_images_in_which_nothing_matches_give_an_empty_page_and_a_clear_line(
    monkeypatch, capsys, tmp_path, folder, checkpoint
):
    arguments = (folder, "-o", tmp_path / "out", "--checkpoint", checkpoint, "--side", 96, "--mask-threshold", 0.999)
    assert run(monkeypatch, *arguments) == 0
    said = capsys.readouterr().out
    assert "nothing repeats" in said and "0 clusters, 0 regions" in said
    assert "Nothing repeats" in (tmp_path / "out/index.html").read_text()
    assert json.loads((tmp_path / "out/clusters.json").read_text())["clusters"] == []


def test_copies_of_one_picture_are_left_out(monkeypatch, capsys, tmp_path, folder, checkpoint):
    paths = sorted(folder.iterdir())
    for path in paths[1:]:
        path.write_bytes(paths[0].read_bytes())
    said = run(monkeypatch, folder, "-o", tmp_path / "out", "--checkpoint", checkpoint)
    assert "1 image (4 left out); discovery compares at least three" in str(said)
    assert capsys.readouterr().out.count("left out, the same picture as") == 4


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--side", 100), ("--candidates", -1), ("--windows", 0), ("--min-share", 1), ("--top-k", 0),
        ("--mask-threshold", 1.5), ("--sigma", 0), ("--clusters", 0), ("--node-share", 1), ("--region-share", 2),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_named(monkeypatch, tmp_path, folder, checkpoint, flag, value):
    said = run(monkeypatch, folder, "-o", tmp_path / "out", "--checkpoint", checkpoint, flag, value)
    assert str(said).startswith(f"error: {flag} {value}")
    assert not (tmp_path / "out").exists()


def test_a_missing_model_and_an_output_that_is_no_folder_are_errors(monkeypatch, tmp_path, folder, checkpoint):
    said = run(monkeypatch, folder, "-o", tmp_path / "out", "--checkpoint", tmp_path / "gone.pt")
    assert "gone.pt: no such file" in str(said) and not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("no folder")
    said = run(monkeypatch, folder, "-o", tmp_path / "file", "--checkpoint", checkpoint)
    assert "file: cannot be made a folder" in str(said)


def test_a_folder_without_pictures_is_an_error(monkeypatch, tmp_path, checkpoint):
    (tmp_path / "empty").mkdir()
    said = run(monkeypatch, tmp_path / "empty", "-o", tmp_path / "out", "--checkpoint", checkpoint)
    assert "empty: holds no picture" in str(said)
