"""The exported model gives the numbers of the model, for any batch and any sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from small_backbones import SMALL, VIT_FORM
from torch import nn

from segswap.errors import InputError
from segswap.models import onnx
from segswap.models.backbones import build
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.backbones.vit import ViTSettings
from segswap.models.ncnet import NcNet, NcNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings

ROTARY = ViTSettings("vit", None, dataclasses.replace(VIT_FORM, depth=1, grid=None, gated=True, patch=16))


def transformer(channels: int) -> nn.Module:
    return Transformer(TransformerSettings("tiny", channels, 0.1, "matching"))


def ncnet(channels: int) -> nn.Module:
    return NcNet(NcNetSettings(channels))


def small_model(trunk: ResNetSettings, matcher: Callable[[int], nn.Module]) -> SegSwap:
    torch.manual_seed(3)
    backbone = ResNet(trunk)
    return SegSwap(backbone, matcher(backbone.channels)).eval()


# Writing one takes long: each trunk with another matcher.
@pytest.fixture(
    scope="module",
    params=[(ResNetSettings("resnet50", 8), transformer), (ResNetSettings("resnet10", 8, 16), ncnet)],
    ids=["resnet50, transformer", "resnet10 with projection, Nc-Net"],
)
def exported(request, tmp_path_factory):
    """A model, and its two files opened by onnxruntime."""
    model = small_model(*request.param)
    paths = onnx.export_onnx(model, tmp_path_factory.mktemp("onnx"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return model, *(onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"]) for path in paths)


# In the last two cases images have two cells and one, fewer than the correlations that Nc-Net keeps of a cell.
@pytest.mark.parametrize(
    ("batch", "size_a", "size_b"),
    [
        (1, (96, 96), (96, 96)),
        (3, (64, 112), (80, 48)),
        (2, (32, 16), (160, 96)),
        (1, (16, 16), (16, 16)),
    ],
)
@torch.inference_mode()
def test_files_give_the_model_s_numbers(exported, batch, size_a, size_b):
    model, trunk, matcher = exported
    rng = np.random.default_rng(1)
    images = [rng.random((batch, 3, *size), np.float32) for size in (size_a, size_b)]
    features = [trunk.run(["features"], {"images": each})[0] for each in images]
    for found, each in zip(features, images, strict=True):
        np.testing.assert_allclose(found, model.features(torch.from_numpy(each)), atol=1e-5)
    maps = matcher.run(["maps_x", "maps_y"], {"x": features[0], "y": features[1]})
    for found, expected in zip(maps, model(*(torch.from_numpy(each) for each in images)), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "settings", [SMALL["EfficientNet"], SMALL["ViT"], ROTARY], ids=["EfficientNet", "ViT", "rotary"]
)
@torch.inference_mode()
def test_a_backbone_of_another_family_gives_its_numbers(settings, tmp_path):
    torch.manual_seed(4)
    backbone = build(settings).freeze()
    onnx.export_backbone(backbone, tmp_path / "backbone.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "backbone.onnx", providers=["CPUExecutionProvider"])
    for batch, size in ((1, (64, 112)), (3, (96, 96)), (1, (16, 16))):
        images = np.random.default_rng(1).random((batch, 3, *size), np.float32)
        found = session.run(["features"], {"images": images})[0]
        np.testing.assert_allclose(found, backbone(torch.from_numpy(images)), atol=1e-5)


def test_absent_packages_are_an_error_that_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install .segswap\[onnx\]"):
        onnx.export_onnx(small_model(ResNetSettings("resnet10", 8), transformer), tmp_path)
