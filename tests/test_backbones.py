"""Every backbone: the list of families, settings from plain values, and what was written before there were families."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from small_backbones import SMALL
from test_cli import run
from torch.nn import functional as F
from workflow_runs import copy_project, snakemake

from segswap.config import SCHEMA, read_schema
from segswap.errors import InputError
from segswap.matching.features import FeatureStore, backbone_key, extract_features
from segswap.models import backbones
from segswap.models.backbones import BACKBONES, FAMILIES, backbone_settings, build
from segswap.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, checked_taps, joined
from segswap.models.backbones.resnet import ResNetSettings
from segswap.models.checkpoint import load_backbone, load_checkpoint, save_checkpoint, save_published
from segswap.models.ncnet import NcNet, NcNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings

# Written with commit 99819d2, which knew ResNets only: a backbone of `save_backbone`, one model as .pt and as
# .safetensors, and the features of `drawn()`. Weights random (seed 0), running statistics uniform in [0.5, 1.5].
BEFORE = Path(__file__).parent / "golden/before_families"
BEFORE_SETTINGS = ResNetSettings("resnet10", width=2, projection=8)


def drawn() -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 4, y * 5, (x * y) % 256], 2).astype(np.uint8)


# What was written before


def test_backbones_and_models_that_were_written_before_still_load_and_have_the_key_that_they_had():
    backbone = load_backbone(BEFORE / "backbone.pt", BEFORE_SETTINGS)
    assert backbone.settings == BEFORE_SETTINGS and backbone_key(backbone) == "e8f98fc1a06cf067"
    for name in ("model.pt", "model.safetensors"):
        model, about = load_checkpoint(BEFORE / name)
        assert model.key == "d17bcbae390ce2ee" and about == {"stage": 2, "image_size": 64}
        assert backbone_key(model.backbone) == backbone_key(backbone)
        assert model.contents().backbone_settings == {"architecture": "resnet10", "width": 2, "projection": 8}


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_the_backbone_of_a_whole_model_loads_by_itself(name):
    alone = load_backbone(BEFORE / name, BEFORE_SETTINGS)
    assert backbone_key(alone) == "e8f98fc1a06cf067"


def test_a_feature_store_that_was_written_before_opens_and_is_written_alike(tmp_path):
    backbone = load_backbone(BEFORE / "backbone.pt", BEFORE_SETTINGS)
    before = FeatureStore(BEFORE / "features.npy", backbone, ["drawn.png"]).read([0])
    extract_features(["drawn.png"], [drawn], backbone, (64, 48), tmp_path / "features.npy")
    assert (tmp_path / "features.json").read_bytes() == (BEFORE / "features.json").read_bytes()
    after = FeatureStore(tmp_path / "features.npy", backbone).read([0])
    torch.testing.assert_close(after, before, atol=1e-3, rtol=0)


# Settings


def test_settings_come_back_from_the_values_that_describe_them():
    for values in ({"architecture": "resnet18"}, {"architecture": "resnet50", "width": 8, "projection": 16}):
        settings = backbone_settings(values)
        assert backbone_settings(json.loads(json.dumps(settings.described()))) == settings
    assert backbone_settings({"architecture": "resnet18", "taps": None}) == ResNetSettings("resnet18")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "backbone.architecture: None; expected one of resnet10, "),
        ({"architecture": "resnet99"}, "backbone.architecture: 'resnet99'; expected one of resnet10, "),
        (
            {"architecture": "resnet18", "depth": 3},
            "backbone.depth: unknown; resnet18 has architecture, projection, wi",
        ),
        ({"architecture": "resnet18", "taps": [3]}, r"backbone.taps: \[3\], but resnet18 has no taps to choose; leave"),
    ],
    ids=str,
)
def test_values_that_are_no_settings_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        backbone_settings(values)


# Weight files


def test_a_file_that_holds_something_else_than_tensors_is_an_error(tmp_path):
    torch.save({"epoch": 3, "net": {"conv1.weight": torch.zeros(2)}}, tmp_path / "weights.pt")
    with pytest.raises(
        InputError, match=r"weights\.pt: holds epoch, net; expected tensors by name, at the top or below"
    ):
        load_backbone(tmp_path / "weights.pt", BEFORE_SETTINGS)


def test_a_folder_in_the_layout_of_the_hub_is_read(tmp_path):
    shutil.copy(BEFORE / "model.safetensors", tmp_path)
    for weights in (tmp_path, tmp_path / "model.safetensors"):
        assert backbone_key(load_backbone(weights, BEFORE_SETTINGS)) == "e8f98fc1a06cf067"


def test_a_folder_without_weights_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for weights in (tmp_path, ""):
        with pytest.raises(InputError, match=r"holds no model\.safetensors; expected a weight file, or a folder with"):
            load_backbone(weights, BEFORE_SETTINGS)


@pytest.mark.parametrize("weights", ["nowhere/weights.pt", "some/where/else"])
def test_weights_that_are_nowhere_are_an_error_that_says_what_can_be_given(tmp_path, monkeypatch, weights):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"expected a weight file .* or a model of the Hugging Face hub as owner/model"
    ):
        load_backbone(weights, BEFORE_SETTINGS)


def test_a_name_of_the_hub_without_network_or_cache_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"somebody/some-model: .* not in the cache, and the hub was not reached"):
        load_backbone("somebody/some-model", BEFORE_SETTINGS)


@pytest.mark.parametrize("architecture", ["resnet50"])
def test_where_no_package_brings_weights_that_is_an_error(architecture):
    with pytest.raises(InputError, match=rf"backbone.weights: no package brings weights of {architecture}"):
        load_backbone("package", backbone_settings({"architecture": architecture}))


# Taps


def test_joined_taps_have_the_same_weight_each_and_unit_length_together():
    generator = torch.Generator().manual_seed(1)
    small, large = (torch.randn(2, channels, 3, 4, generator=generator) for channels in (5, 7))
    features = joined([small, 100 * large])
    assert features.shape == (2, 12, 3, 4)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 3, 4))
    for part, tap in ((features[:, :5], small), (features[:, 5:], large)):
        torch.testing.assert_close(part, tap / tap.norm(dim=1, keepdim=True) / 2**0.5)


def test_taps_are_blocks_that_exist_in_ascending_order():
    assert checked_taps([5, 7], range(5, 16), "it") == (5, 7)
    for taps in ([4, 7], [7, 16]):
        with pytest.raises(InputError, match=rf"no block {taps[taps[0] == 7]} to take .*; it has 5 to 15"):
            checked_taps(taps, range(5, 16), "it")
    for taps in ([], [7, 5], [7, 7]):
        with pytest.raises(InputError, match="expected block numbers that ascend, one or more; it has 5 to 15"):
            checked_taps(taps, range(5, 16), "it")


# Every family


@pytest.fixture(scope="module", params=SMALL)
def model(request) -> SegSwap:
    """A model with a backbone of each family, random weights, and Nc-Net on its features."""
    torch.manual_seed(5)
    backbone = build(SMALL[request.param])
    return SegSwap(backbone, NcNet(NcNetSettings(backbone.channels, width=2)), {"stage": 1}).eval()


def random_images(count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 48, 80, generator=torch.Generator().manual_seed(6))


@torch.no_grad()
def test_features_are_unit_vectors_of_cells_alike_alone_and_in_a_batch(model):
    images = random_images(2)
    features = model.features(images)
    assert features.shape == (2, model.backbone.channels, 3, 5)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 3, 5))
    torch.testing.assert_close(model.features(images[1:])[0], features[1], atol=1e-6, rtol=0)
    assert not any(value.requires_grad for value in model.train().backbone.parameters())
    assert not any(module.training for module in model.backbone.modules())
    torch.testing.assert_close(model.eval().features(images), features, atol=0, rtol=0)


@torch.no_grad()
def test_features_can_be_computed_in_half_the_precision(model):
    images = random_images()
    with torch.autocast("cpu", torch.bfloat16):
        features = model.features(images)
    cosines = (F.normalize(features.float(), dim=1) * model.features(images)).sum(1)
    assert cosines.min() > 0.99


@torch.no_grad()
def test_a_model_comes_back_from_every_form_with_its_numbers_and_key(model, tmp_path, monkeypatch):
    images = random_images(), random_images().flip(3)
    save_checkpoint(tmp_path / "model.pt", model, model.about)
    for form, name in (("safetensors", "model.safetensors"), ("safetensors", "folder"), ("checkpoint", "back.pt")):
        assert run(monkeypatch, "export", tmp_path / "model.pt", "--form", form, "-o", tmp_path / name) == 0
        loaded, about = load_checkpoint(tmp_path / name)
        assert loaded.backbone.settings == model.backbone.settings and about == model.about
        assert loaded.key == model.key
        assert all(torch.equal(*maps) for maps in zip(loaded(*images), model(*images), strict=True))
        alone = load_backbone(tmp_path / name, model.backbone.settings)
        assert backbone_key(alone) == backbone_key(model.backbone)


def test_a_model_says_what_its_backbone_is(model, tmp_path, monkeypatch, capsys):
    save_checkpoint(tmp_path / "model.pt", model, model.about)
    assert run(monkeypatch, "info", tmp_path / "model.pt") == 0
    assert json.loads(capsys.readouterr().out)["backbone"] == model.backbone.settings.described()
    model.save_pretrained(tmp_path / "folder")
    (row,) = re.findall(r"(?m)^\| backbone, frozen \| (.*) \|$", (tmp_path / "folder/README.md").read_text())
    assert row.startswith(f"architecture {model.backbone.settings.architecture}, ") and not re.search(r"[\[\]{}']", row)


def test_the_published_form_has_no_place_for_another_backbone(model, tmp_path):
    published = SegSwap(model.backbone, Transformer(TransformerSettings("small", model.backbone.channels)))
    architecture = model.backbone.settings.architecture
    with pytest.raises(InputError, match=rf"holds a plain ResNet-50 .* has the backbone .*'{architecture}'"):
        save_published(tmp_path / "published.pth", published)


def test_a_store_of_a_backbone_with_other_taps_is_an_error(tmp_path):
    for name, others in (("EfficientNet", (7,)), ("ViT", (1,))):
        torch.manual_seed(0)
        one = build(SMALL[name]).freeze()
        other = build(dataclasses.replace(SMALL[name], taps=others)).freeze()
        other.load_state_dict(one.state_dict())
        extract_features(["drawn.png"], [drawn], one, (64, 48), tmp_path / "features.npy")
        assert FeatureStore(tmp_path / "features.npy", one).channels == one.channels
        with pytest.raises(InputError, match="features of another backbone"):
            FeatureStore(tmp_path / "features.npy", other)


# The list of families


def missing_of_families() -> set[str]:
    """Return what is missing where a family is a module of the package."""
    enum = read_schema(SCHEMA)["properties"]["backbone"]["properties"]["architecture"]["enum"]
    said = {
        f"config/schema.yaml, backbone.architecture: {name} is in no family" for name in enum if name not in BACKBONES
    }
    for module in pkgutil.iter_modules(backbones.__path__):
        for value in vars(importlib.import_module(f"{backbones.__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Backbone) and value is not Backbone:
                if value not in FAMILIES:
                    said.add(f"{value.__name__} of {module.name}.py is not in FAMILIES")
                said |= {
                    f"{name} of {module.name}.py is not in config/schema.yaml, backbone.architecture"
                    for name in set(value.architectures) - set(enum)
                }
    return said


def test_every_family_is_in_the_list_and_its_names_are_in_the_schema():
    assert not missing_of_families()


def test_no_two_families_have_a_name_in_common():
    assert sum(len(family.architectures) for family in FAMILIES) == len(BACKBONES)


@pytest.fixture
def example(tmp_path, monkeypatch) -> types.ModuleType:
    """The family of docs/backbones.md as a module of the package, but in no list."""
    text = (Path(__file__).parents[1] / "docs/backbones.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"(?s)<!-- tests/test_backbones.py runs this -->\n```python\n(.*?)```", text)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/vgg.py").write_text(code)
    monkeypatch.setattr(backbones, "__path__", [*backbones.__path__, str(tmp_path / "package")])
    yield importlib.import_module("segswap.models.backbones.vgg")
    del sys.modules["segswap.models.backbones.vgg"]


def test_what_a_new_family_lacks_is_said(example):
    assert missing_of_families() == {
        "VGG of vgg.py is not in FAMILIES",
        "vgg16 of vgg.py is not in config/schema.yaml, backbone.architecture",
    }


@torch.no_grad()
def test_the_example_of_a_family_works_once_it_is_in_the_list(example, tmp_path, monkeypatch):
    monkeypatch.setitem(BACKBONES, "vgg16", example.VGG)
    torch.manual_seed(0)
    # torchvision's layout: 13 convolutions by their places among ReLUs and poolings, then the classifier.
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    widths = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    state = {"classifier.0.weight": torch.zeros(2, 2)}
    for place, before, after in zip(places, widths, widths[1:], strict=False):
        state[f"features.{place}.weight"] = torch.randn(after, before, 3, 3) * (2 / 9 / before) ** 0.5
        state[f"features.{place}.bias"] = torch.randn(after) / 10
    torch.save(state, tmp_path / "vgg16.pth")
    backbone = load_backbone(tmp_path / "vgg16.pth", backbone_settings({"architecture": "vgg16", "width": 64}))
    images = random_images()
    x = (images - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    for n, place in enumerate(places[:10]):
        x = F.relu(F.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1))
        x = F.max_pool2d(x, 2) if n in (1, 3, 6, 9) else x
    torch.testing.assert_close(backbone(images), F.normalize(x, dim=1), atol=1e-5, rtol=0)
    model = SegSwap(backbone, NcNet(NcNetSettings(backbone.channels, width=2)))
    save_checkpoint(tmp_path / "model.pt", model, {})
    assert load_checkpoint(tmp_path / "model.pt")[0].key == model.key


# The workflow


def test_the_workflow_fetches_what_a_package_has_and_later_rules_read_that_file(tmp_path):
    folder = copy_project(tmp_path / "project")
    section = {"weights": "package", "architecture": "efficientnet_lite0", "width": 64, "projection": None, "taps": [7]}
    given = ["--config", f"backbone={json.dumps(section)}"]
    planned = snakemake(folder, "-n", "-p", "models", *given)
    (path,) = set(re.findall(r"output: (results/shared/backbones/efficientnet_lite0-\w+/backbone\.pt)", planned))
    trunk = json.dumps({key: section[key] for key in ("architecture", "width", "projection", "taps")})
    assert planned.count(f"--weights {path} --backbone '{trunk}'") > 4
    assert "rule pretrain_backbone" not in planned
    snakemake(folder, path, *given)
    fetched = load_backbone(folder / path, backbone_settings({"architecture": "efficientnet_lite0", "taps": [7]}))
    assert backbone_key(fetched) == backbone_key(load_backbone("package", fetched.settings))
