"""ResNets: the published arithmetic, its shapes, and that it stays frozen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from formula_weights import formula_state, key_list
from torch import nn

from segswap.errors import InputError
from segswap.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings

TORCHVISION_NAMES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}


def torchvision_name(published: str) -> str:
    child, _, rest = published.partition(".")
    return f"{TORCHVISION_NAMES[child]}.{rest}"


def small_trunk(**settings) -> ResNet:
    torch.manual_seed(3)
    return ResNet(ResNetSettings("resnet18", width=8, **settings))


@pytest.fixture(scope="module")
def measured(shared):
    with np.load(shared / "golden" / "a_backbone.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def golden_trunk(shared):
    trunk = ResNet(ResNetSettings("resnet50"))
    state = formula_state(key_list(shared, "backbone_sequential_conv1_to_layer3"))
    trunk.load_state_dict({torchvision_name(key): value for key, value in state.items()})
    return trunk.freeze()


def test_names_and_shapes_are_the_published_ones(shared):
    expected = [
        (torchvision_name(entry["key"]), tuple(entry["shape"]))
        for entry in key_list(shared, "backbone_sequential_conv1_to_layer3")
    ]
    state = ResNet(ResNetSettings("resnet50")).state_dict()
    assert [(name, tuple(value.shape)) for name, value in state.items()] == expected


@torch.no_grad()
def test_every_stage_equals_the_measured_one(golden_trunk, measured):
    # The measured input is the network's own: ours takes pictures in [0, 1] and normalises them itself.
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    stages: dict[str, torch.Tensor] = {}
    hooks = [
        getattr(golden_trunk, name).register_forward_hook(
            lambda module, inputs, output, name=name: stages.update({name: output})
        )
        for name in ("layer1", "layer2", "layer3", "maxpool")
    ]
    features = golden_trunk(measured["image"] * std + mean)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(stages["maxpool"].mean((2, 3)), measured["after_3_mean"], atol=1e-5, rtol=0)
    torch.testing.assert_close(stages["layer1"][:, ::8], measured["after_4"], atol=1e-5, rtol=0)
    torch.testing.assert_close(stages["layer2"][:, ::8], measured["after_5"], atol=1e-5, rtol=0)
    # Values up to 4, sums of thousands of products: 1e-5 of the largest, which differs between processors.
    torch.testing.assert_close(
        stages["layer3"], measured["after_6"], atol=1e-5 * float(measured["after_6"].max()), rtol=0
    )
    expected = nn.functional.normalize(measured["after_6"], dim=1)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "channels"),
    [
        (ResNetSettings("resnet10", 8), 32),
        (ResNetSettings("resnet18", 8), 32),
        (ResNetSettings("resnet34", 8), 32),
        (ResNetSettings("resnet50", 8), 128),
        (ResNetSettings("resnet18", 8, projection=20), 20),
    ],
)
@torch.no_grad()
def test_features_have_stride_16_and_unit_length(settings, channels):
    trunk = ResNet(settings).eval()
    assert trunk.channels == channels
    features = trunk(torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)))
    assert features.shape == (2, channels, 4, 6)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 4, 6))


def test_another_architecture_is_no_resnet():
    with pytest.raises(
        InputError, match=r"backbone\.architecture: 'vit' is no ResNet; expected one of resnet10, resnet18"
    ):
        ResNet(ResNetSettings("vit"))


@torch.no_grad()
def test_a_projection_gives_features_of_both_signs():
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert small_trunk().eval()(images).min() >= 0, "behind a ReLU"
    assert small_trunk(projection=16).eval()(images).min() < 0


def test_train_mode_of_the_model_leaves_the_frozen_trunk_in_evaluation():
    model = SegSwap(small_trunk(), Transformer(TransformerSettings("tiny", 32)))
    model.train()
    assert model.matcher.training
    assert not any(module.training for module in model.backbone.modules())
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    first, second = model(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    (first.sum() + second.sum()).backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    after = model.backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "batch-norm statistics included"


@torch.no_grad()
def test_an_image_has_the_same_features_alone_and_in_a_batch():
    model = SegSwap(small_trunk(), Transformer(TransformerSettings("tiny", 32)))
    images = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(5))
    together = model.features(images)
    assert together.is_contiguous(memory_format=torch.channels_last)
    for n in range(3):
        torch.testing.assert_close(model.features(images[n : n + 1])[0], together[n], atol=1e-6, rtol=0)
