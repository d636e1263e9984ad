"""A model of the second architecture does all that one of the first does: its file alone says which it is."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from search_folders import SIDE, draw_picture, write_folder
from test_cli import run

from segswap.errors import InputError
from segswap.images import encode_jpeg
from segswap.matching.details import query_weights
from segswap.matching.features import FeatureStore, extract_features
from segswap.matching.predict import load_matcher, predict_pairs
from segswap.matching.score import score_pairs, symmetric_scores
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import load_checkpoint, save_checkpoint
from segswap.models.ncnet import NcNet, NcNetSettings
from segswap.models.segswap import SegSwap
from segswap.training.hard_negatives import score_pool
from segswap.training.numerics import Numerics
from segswap.training.pools import MiningSettings
from segswap.training.processes import Processes
from segswap.training.step import Execution

CPU = torch.device("cpu")
ABOUT = {"stage": 1, "steps": 7, "image_size": SIDE}
SETTINGS = {"channels": 16, "top_k": 5, "width": 4}
TENSORS = {"weight1", "bias1", "weight2", "log_sharpness", "log_mask_scale", "mask_threshold"}


@pytest.fixture(scope="module")
def model() -> SegSwap:
    """An untrained Nc-Net, each of whose weights has left its start."""
    torch.manual_seed(0)
    matcher = NcNet(NcNetSettings(**SETTINGS))
    with torch.no_grad():
        for parameter in matcher.parameters():
            parameter += 0.01 * torch.randn(parameter.shape)
    return SegSwap(ResNet(ResNetSettings("resnet10", 8, 16)), matcher, ABOUT).eval()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_checkpoint(path, model, ABOUT)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Five pictures, three of which share a detail."""
    marks = {"a.jpg": (20, 30), "b.jpg": (60, 50), "c.jpg": (70, 10), "d.jpg": None, "e.jpg": None}
    return write_folder(tmp_path_factory.mktemp("pictures") / "pictures", marks)


# Forms


def test_it_goes_through_all_forms_bit_for_bit(monkeypatch, tmp_path, model, checkpoint):
    a, b = (torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) for size in ((64, 96), (80, 48)))
    expected, state = model(a, b), model.state_dict()
    assert {name for name in state if name.startswith("matcher")} == {f"matcher.{name}" for name in TENSORS}
    source = checkpoint
    for form, name in (("safetensors", "alone.safetensors"), ("safetensors", "folder"), ("checkpoint", "back.pt")):
        assert run(monkeypatch, "export", source, "--form", form, "-o", tmp_path / name) == 0
        source = tmp_path / name
        found, about = load_checkpoint(source)
        assert type(found.matcher) is NcNet and found.matcher.settings == NcNetSettings(**SETTINGS)
        assert about == ABOUT and found.key == model.key
        assert all(torch.equal(value, state[key]) for key, value in found.state_dict().items())
        assert all(torch.equal(*maps) for maps in zip(found(a, b), expected, strict=True))


def test_the_published_form_has_no_place_for_it(monkeypatch, tmp_path, checkpoint):
    said = run(monkeypatch, "export", checkpoint, "--form", "published", "-o", tmp_path / "published.pth")
    assert "published.pth: the published form holds a plain ResNet-50 and a transformer of size small" in str(said)
    assert "the ncnet {'channels': 16, 'top_k': 5, 'width': 4}; choose another form" in str(said)
    assert not list(tmp_path.iterdir())


def test_it_says_of_itself_what_it_is(monkeypatch, tmp_path, capsys, model, checkpoint):
    assert run(monkeypatch, "info", checkpoint) == 0
    said = json.loads(capsys.readouterr().out)
    weights = sum(parameter.numel() for parameter in model.matcher.parameters())
    assert (said["architecture"], said["ncnet"], said["parameters"]) == ("ncnet", SETTINGS, weights)
    assert said["image_size"] == SIDE and "transformer" not in said
    model.save_pretrained(tmp_path / "folder")
    config = json.loads((tmp_path / "folder/config.json").read_text())
    assert (config["architecture"], config["matcher_settings"]) == ("ncnet", SETTINGS)
    card = (tmp_path / "folder/README.md").read_text()
    assert "| matcher | ncnet: channels 16, top_k 5, width 4 |" in card
    assert f"| weights | {weights:,} in the matcher" in card
    assert "transformer" not in card and "attention" not in card


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"top_k": 5}, "missing 1 required positional argument: 'channels'"),
        ({**SETTINGS, "size": "small"}, "unexpected keyword argument 'size'"),
        ({**SETTINGS, "width": -4}, "negative dimension"),
    ],
    ids=str,
)
def test_settings_that_make_none_are_an_error(tmp_path, checkpoint, settings, reason):
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "matcher_settings": settings}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=rf"model\.pt: its settings make no model of this version \(.*{reason}"):
        load_checkpoint(tmp_path / "model.pt")


def test_weights_of_another_width_or_of_a_transformer_are_an_error(tmp_path, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "matcher_settings": {**SETTINGS, "width": 8}}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"weight1: \(4, 3, 3, 3, 3\) in the file, \(8, 3, 3, 3, 3\) in the model"):
        load_checkpoint(tmp_path / "model.pt")
    settings = {"size": "tiny", "channels": 16}
    torch.save({**content, "architecture": "transformer", "matcher_settings": settings}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"Unexpected: weight1, bias1, weight2, log_sharpness"):
        load_checkpoint(tmp_path / "model.pt")


# Commands


def test_match_writes_what_two_pictures_share(monkeypatch, capsys, tmp_path, checkpoint):
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for path, mark, size in zip(paths, ((20, 30), (10, 40)), ((120, 100), (90, 170)), strict=True):
        path.write_bytes(encode_jpeg(draw_picture(0, mark, size)))
    out = tmp_path / "out"
    arguments = (*paths, "-o", out, "--rotations", "--flips", "--checkpoint", checkpoint)
    assert run(monkeypatch, "match", *arguments) == 0
    printed, content = json.loads(capsys.readouterr().out), json.loads((out / "match.json").read_text())
    assert content["score"] == printed["score"] > 0
    assert content["first"]["matched_at"] != content["second"]["matched_at"]
    assert {path.name for path in out.iterdir()} == {"match.json", "match.jpg"}


def test_search_ranks_the_pictures_of_a_folder(monkeypatch, tmp_path, folder, checkpoint):
    store = ("--store", tmp_path / "store", "-o", tmp_path / "out")
    detail = ("--query", folder / "a.jpg", "--box", "20,30,60,70", "--folder", folder, "--false-positives", 0.3)
    assert run(monkeypatch, "search", *detail, *store, "--checkpoint", checkpoint) == 0
    with open(tmp_path / "out/results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == {"b.jpg", "c.jpg", "d.jpg", "e.jpg"}
    assert rows[0]["image"] in ("b.jpg", "c.jpg") and float(rows[0]["score"]) > 0


def test_discover_finds_clusters(monkeypatch, capsys, tmp_path, folder, checkpoint):
    out = tmp_path / "out"
    seen = ("--min-share", 0, "--mask-threshold", 0.3, "--clusters", 2)
    assert run(monkeypatch, "discover", folder, "-o", out, *seen, "--checkpoint", checkpoint) == 0
    assert "5 images" in capsys.readouterr().out
    regions = pq.read_table(out / "regions.parquet")
    assert len(regions) and set(regions["image"].to_pylist()) <= {path.name for path in folder.iterdir()}


def test_serve_compares_two_uploads(monkeypatch, tmp_path, folder, checkpoint):
    answers = []

    def ask(server) -> None:
        client = server.application.test_client()
        files = {side: (io.BytesIO((folder / f"{side}.jpg").read_bytes()), f"{side}.jpg") for side in "ab"}
        answers.append(client.post("/api/match", data=files, content_type="multipart/form-data"))

    monkeypatch.setattr("segswap.commands.serve.serve", ask)
    monkeypatch.setattr("segswap.commands.serve.make_server", lambda app, _: type("", (), {"application": app}))
    assert run(monkeypatch, "serve", "--port", 0, "--checkpoint", checkpoint) == 0
    assert answers[0].status_code == 200 and answers[0].json["score"] > 0


# Benchmarks and hard negatives: what they do with a matcher


def test_stored_features_are_matched_and_scored(tmp_path, folder, checkpoint):
    backbone, matcher = load_matcher(checkpoint)
    assert type(matcher) is NcNet and not matcher.training
    pictures = [draw_picture(seed, (20, 30), (96, 96)) for seed in range(3)]
    for name, size in (("x", (96, 96)), ("y", (64, 48))):
        loaders = [lambda picture=picture: picture for picture in pictures]
        extract_features(["1", "2", "3"], loaders, backbone, size, tmp_path / f"{name}.npy")
    store_x, store_y = (FeatureStore(tmp_path / f"{name}.npy", backbone) for name in "xy")
    pairs = np.argwhere(np.ones((3, 3)))
    batches = list(predict_pairs(matcher, store_x, store_y, pairs, CPU, batch=5))
    assert [len(found.maps_x) for found in batches] == [5, 4]
    for found in batches:
        assert found.maps_x.shape[1:] == (3, 6, 6) and found.maps_y.shape[1:] == (3, 3, 4)
        alone = matcher(found.features_x[:1], found.features_y[:1])
        torch.testing.assert_close(alone[0][0], found.maps_x[0], rtol=0, atol=1e-6)
        weight = query_weights(found.features_x, [(1, 1, 5, 5)] * len(found.maps_x), matcher)
        assert weight.amax() > 0 and weight[..., 0].amax() == 0
        maps = found.maps_x, found.maps_y, found.features_x, found.features_y
        for scores in (score_pairs(*maps, weight, "published"), symmetric_scores(*maps)):
            assert scores.shape == (len(found.rows),) and scores.isfinite().all() and scores.min() > 0


def test_a_pool_of_hard_negatives_is_scored_by_its_masks(model):
    features = torch.nn.functional.normalize(
        torch.randn(5, 16, 6, 6, generator=torch.Generator().manual_seed(1)), dim=1
    )
    features = features.half()
    settings = MiningSettings(5, (0.5, 1.0), 0.0, 0.1, 1, 1, 1, 1, scoring_batch=4)
    execution = Execution(CPU, model.matcher, Numerics().on(CPU), Processes())
    pairs, scores = score_pool(model, features, [frozenset([n]) for n in range(5)], settings, execution)
    assert pairs.tolist() == [[i, j] for i in range(5) for j in range(i + 1, 5)]
    for (i, j), score in zip(pairs, scores, strict=True):
        maps = model.matcher(features[i : i + 1].float(), features[j : j + 1].float())
        assert score == pytest.approx(sum(side[:, 2].mean().item() for side in maps), abs=1e-6)
