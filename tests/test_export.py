"""``segswap export`` and ``segswap info``: every form a model can be kept in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from segswap import cli
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import load_checkpoint, save_checkpoint
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings

ABOUT = {"stage": 2, "steps": 9, "image_size": 160}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    """Run the command and return its exit status, or what it says when it fails."""
    monkeypatch.setattr("sys.argv", ["segswap", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


@pytest.fixture
def small(tmp_path) -> Path:
    torch.manual_seed(0)
    matcher = Transformer(TransformerSettings("tiny", 16, 0.0, "matching"))
    save_checkpoint(tmp_path / "small.pt", SegSwap(ResNet(ResNetSettings("resnet10", 8, 16)), matcher), ABOUT)
    return tmp_path / "small.pt"


@torch.inference_mode()
def outputs(model: SegSwap) -> torch.Tensor:
    rng = np.random.default_rng(4)
    a, b = (torch.from_numpy(rng.random((1, 3, *size), np.float32)) for size in ((64, 96), (80, 48)))
    return torch.cat([maps.flatten() for maps in model.eval()(a, b)])


def test_a_model_goes_through_all_forms_and_gives_the_same_numbers(monkeypatch, tmp_path):
    torch.manual_seed(5)
    model = SegSwap(ResNet(ResNetSettings("resnet50")), Transformer(TransformerSettings("small", 1024)))
    # Statistics of its own, so that a lost one shows.
    for name, value in model.backbone.state_dict().items():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    source = tmp_path / "ours.pt"
    save_checkpoint(source, model, ABOUT)
    expected, state = outputs(model), model.state_dict()
    assert expected.std() > 0.01
    steps = [
        ("published", "published.pth"),
        ("checkpoint", "back.pt"),
        ("safetensors", "alone.safetensors"),
        ("safetensors", "folder"),
    ]
    for form, name in steps:
        assert run(monkeypatch, "export", source, "--form", form, "-o", tmp_path / name) == 0
        source = tmp_path / name
        found, about = load_checkpoint(source)
        assert about == ABOUT
        assert all(torch.equal(value, state[key]) for key, value in found.state_dict().items())
        assert torch.equal(outputs(found), expected)


def test_every_form_is_named_when_it_is_written(monkeypatch, capsys, tmp_path, small):
    assert run(monkeypatch, "export", small, "--form", "safetensors", "-o", tmp_path / "folder") == 0
    names = [f"{tmp_path / 'folder' / name}" for name in ("model.safetensors", "config.json", "README.md")]
    assert capsys.readouterr().out.splitlines() == [f"written: {name}" for name in names]
    # Of a card that is there it is said that it stays: it may tell of another model.
    assert run(monkeypatch, "export", small, "--form", "safetensors", "-o", tmp_path / "folder") == 0
    kept, *written = capsys.readouterr().out.splitlines()
    assert kept.startswith(f"{names[2]}: is there and stays") and written == [f"written: {name}" for name in names[:2]]
    assert run(monkeypatch, "export", tmp_path / "folder", "--form", "checkpoint", "-o", tmp_path / "new.pt") == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'new.pt'}\n"
    found, expected = (outputs(load_checkpoint(path)[0]) for path in (tmp_path / "new.pt", small))
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("form", "output", "message"),
    [
        ("safetensors", "a file", "is a file; the form safetensors is a folder here"),
        ("onnx", "a file", "is a file; the form onnx is a folder here"),
        ("checkpoint", "a folder", "is a folder; the form checkpoint is one file here"),
        ("safetensors", "folder.safetensors", "is a folder; the form safetensors is one file here"),
        ("published", "model.safetensors", r"no safetensors file; let the name end in \.pt"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_written(
    monkeypatch, tmp_path, small, form, output, message
):
    (tmp_path / "a file").write_text("mine")
    for name in ("a folder", "folder.safetensors"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert message.replace("\\", "") in str(run(monkeypatch, "export", small, "--form", form, "-o", tmp_path / output))
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "a file").read_text() == "mine"


@pytest.mark.parametrize("form", ["file", "folder"])
def test_info_says_of_every_form_the_same(monkeypatch, capsys, tmp_path, small, form):
    output = tmp_path / {"file": "a.safetensors", "folder": "folder"}[form]
    run(monkeypatch, "export", small, "--form", "safetensors", "-o", output)
    said = []
    for source in (small, output):
        capsys.readouterr()
        assert run(monkeypatch, "info", source) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    assert said[0]["architecture"] == "transformer" and said[0]["image_size"] == 160
    assert said[0]["backbone"]["width"] == 8 and said[0]["parameters"] > 1000


def test_info_reads_a_pair_set_by_its_manifest_and_by_its_folder(monkeypatch, capsys, tiny_world):
    said = []
    for source in (tiny_world.pairs["1obj"], tiny_world.pairs["1obj"].parent):
        assert run(monkeypatch, "info", source) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1] and (said[0]["file"], said[0]["pairs"]) == ("pair set", 24)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.pt", b"PK\x03\x04 no zip", "not readable as a weight file"),
        ("model.safetensors", b"", "not readable as safetensors"),
        ("store.npy", b"\x93NUMPY\x01", "not readable as a feature store"),
        ("store.npy", b"", "not readable as a feature store"),
        ("manifest.json", b"[]", "holds a list, expected the manifest of a pair set"),
        ("manifest.json", b"{", "not readable as JSON"),
        ("notes.txt", b"words", "another file; expected a checkpoint"),
        ("folder/other.txt", b"words", "a folder without these; expected a checkpoint"),
    ],
)
def test_info_refuses_other_files_in_one_sentence(monkeypatch, tmp_path, name, content, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    (tmp_path / "store.json").write_text('{"size": [1, 1]}')
    said = str(run(monkeypatch, "info", path.parent if name.startswith("folder") else path))
    assert said.startswith("error: ") and message in said and "Traceback" not in said


def test_info_needs_the_header_of_a_feature_store(monkeypatch, tmp_path):
    np.save(tmp_path / "store.npy", np.zeros(3))
    assert "store.json: no such file" in str(run(monkeypatch, "info", tmp_path / "store.npy"))


def test_info_of_nothing_and_of_a_model_out_of_reach(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "nothing.bin: nothing; expected a checkpoint" in str(run(monkeypatch, "info", "nothing.bin"))
    assert "it is not in the cache" in str(run(monkeypatch, "info", "owner/model"))


@torch.inference_mode()
def test_masks_are_rescaled_and_weights_halved_for_good(monkeypatch, tmp_path, small):
    arguments = ("export", small, "--form", "safetensors", "-o", tmp_path / "m.safetensors")
    assert run(monkeypatch, *arguments, "--mask-threshold", 0.3, "--mask-slope", 2, "--half") in (0, None)
    before, after = (load_checkpoint(path)[0] for path in (small, tmp_path / "m.safetensors"))
    assert after.about == ABOUT | {"mask_threshold": 0.3, "mask_slope": 2.0}
    assert all(p.dtype == torch.float32 for p in after.parameters())
    assert (tmp_path / "m.safetensors").stat().st_size < 0.6 * small.stat().st_size
    images = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    maps, changed = before(*images)[0], after(*images)[0]
    torch.testing.assert_close(changed[:, :2], maps[:, :2], atol=2e-3, rtol=0)
    expected = (2 * (maps[:, 2].logit() - torch.tensor(0.3).logit())).sigmoid()
    torch.testing.assert_close(changed[:, 2], expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mask-threshold", 1), "--mask-threshold 1: expected a value of a mask, above 0 and below 1"),
        (("--mask-slope", 0), "--mask-slope 0: expected a factor above 0"),
        (("--form", "checkpoint", "--half"), "--half: the form checkpoint has weights of 32 bits"),
    ],
    ids=str,
)
def test_changes_that_cannot_be_made_are_refused(monkeypatch, tmp_path, small, arguments, message):
    form = () if "--form" in arguments else ("--form", "safetensors")
    assert message in str(run(monkeypatch, "export", small, *form, "-o", tmp_path / "m", *arguments))
    assert not (tmp_path / "m").exists()
