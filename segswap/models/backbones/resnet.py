"""ResNet cut after layer3: stride 16, one L2-normalised feature vector per cell.

Parameter names are torchvision's (``conv1.weight``, ``layer1.0.conv1.weight``, ...), so its weight files, and
MoCo's, load by name. The published network is ResNet-50 (1024 channels), frozen and in evaluation mode always.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F

from segswap.errors import InputError
from segswap.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSettings, State

_MOCO_PREFIX = "module.encoder_q."

PUBLISHED_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}
"""Children of the published checkpoint's nn.Sequential and their torchvision names."""


class _BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(channels_in, channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.downsample = _shortcut(channels_in, 4 * channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))


_ARCHITECTURES: dict[str, tuple[type[_BasicBlock] | type[_Bottleneck], tuple[int, int, int]]] = {
    "resnet10": (_BasicBlock, (1, 1, 1)),
    "resnet18": (_BasicBlock, (2, 2, 2)),
    "resnet34": (_BasicBlock, (3, 4, 6)),
    "resnet50": (_Bottleneck, (3, 4, 6)),
}


@dataclasses.dataclass(frozen=True)
class ResNetSettings(BackboneSettings):
    """Which ResNet.

    Attributes:
        architecture: resnet10 (one block a stage), resnet18, resnet34 or resnet50.
        width: channels of the first stage; 64 is torchvision's, less makes a slimmer network.
        projection: channels of a linear layer (1x1 convolution) behind layer3, or None as published. A ResNet
            trained from nothing ends in one: behind a ReLU all features share a positive offset, which makes
            every cosine alike.
    """

    width: int = 64
    projection: int | None = None


class ResNet(Backbone):
    """A ResNet to the end of layer3. It can be trained from nothing: ``segswap.training.pretrain``."""

    architectures = tuple(_ARCHITECTURES)
    settings_type = ResNetSettings
    normalisation = "ImageNet mean and deviation"
    distinction = ""  # names and shapes of the weights say which ResNet it is

    def __init__(self, settings: ResNetSettings) -> None:
        super().__init__()
        if settings.architecture not in _ARCHITECTURES:
            raise InputError(
                f"backbone.architecture: {settings.architecture!r} is no ResNet; expected one of "
                f"{', '.join(_ARCHITECTURES)}"
            )
        block, depths = _ARCHITECTURES[settings.architecture]
        width = settings.width
        self.settings = settings
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = []
            for n in range(depth):
                blocks.append(block(channels, width * 2**stage, 2 if stage and n == 0 else 1))
                channels = width * 2**stage * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.channels = settings.projection or channels
        self.projection = nn.Conv2d(channels, settings.projection, 1) if settings.projection else None
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = (images - self.mean) / self.std
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        if self.projection is not None:
            x = self.projection(x)
        return F.normalize(x, dim=1)

    def own_names(self, state: State) -> State:
        """Take MoCo's query network, rename the published trunk, and drop what comes behind layer3."""
        if any(key.startswith(_MOCO_PREFIX) for key in state):
            state = {key.removeprefix(_MOCO_PREFIX): v for key, v in state.items() if key.startswith(_MOCO_PREFIX)}
        if "0.weight" in state:
            state = children_renamed(state, PUBLISHED_CHILDREN)
        return {key: value for key, value in state.items() if not key.startswith(("layer4.", "fc."))}


def children_renamed(state: State, names: dict[str, str]) -> State:
    """Return a state dict with new names of the module's children; those without one keep theirs."""
    renamed = {}
    for key, value in state.items():
        child, _, rest = key.partition(".")
        renamed[f"{names.get(child, child)}.{rest}"] = value
    return renamed
