"""What every backbone is: pictures in, for each cell of 16 x 16 pixels one unit vector out.

A family of backbones is a subclass of ``Backbone`` with settings of its own, and an entry of ``FAMILIES``
(``segswap.models.backbones``). How to write one: docs/backbones.md.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from segswap.errors import InputError

PACKAGE = "package"
"""In place of a weight file: the Python package that brings the weights."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of the colours of ImageNet's photos, RGB in [0, 1]: what most networks of others expect."""

State = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class BackboneSettings:
    """Which backbone; each family adds fields of its own, values that JSON can hold.

    Attributes:
        architecture: a name of ``segswap.models.backbones.BACKBONES``.
    """

    architecture: str

    def described(self) -> dict[str, Any]:
        """Return the settings as JSON has them; ``segswap.models.backbones.backbone_settings`` reads them back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
        origin: the file or folder, for messages.
        state: tensors by name.
        settings: of the backbone, where a backbone or model of ours says them.
        config: of a folder in the layout of the Hugging Face hub, what ``config.json`` and
            ``preprocessor_config.json`` say; else nothing.
    """

    origin: Path
    state: State
    settings: BackboneSettings | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)


class Backbone(nn.Module, ABC):
    """Images to features. A family sets the attributes and writes ``forward``; the other methods have a plain form.

    Attributes:
        architectures: names of the family's backbones.
        settings_type: dataclass of its settings.
        settings: complete: they and the state dict make the same backbone again.
        channels: number of feature channels, C.
        normalisation: what happens to the colours of a picture, in words; the header of a feature store has it.
        distinction: what decides the features and is in no weight, as text. Backbones with equal weights and equal
            distinction have equal features.
    """

    architectures: ClassVar[tuple[str, ...]]
    settings_type: ClassVar[type[BackboneSettings]]
    settings: BackboneSettings
    channels: int
    normalisation: str

    @property
    def distinction(self) -> str:
        return json.dumps(self.settings.described(), sort_keys=True)

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map RGB images (B, 3, H, W) in [0, 1] to features (B, C, H/16, W/16), L2-normalised per cell.

        H and W are multiples of 16. What the network wants besides (mean and deviation, padding) happens inside.
        """

    def window_features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features (B, C', H/16, W/16) by which small windows of pictures are compared.

        A window of ten cells is best known by what its own pixels say. A family whose later blocks see far around a
        cell stops before these; here they are the features of ``forward``.
        """
        return self(images)

    def freeze(self) -> Backbone:
        """Fix weights and batch-norm statistics for good: no gradient, evaluation mode, channels-last."""
        self.requires_grad_(False).to(memory_format=torch.channels_last)
        self.train = lambda mode=True: self  # type: ignore[method-assign]
        super().train(False)
        return self

    @classmethod
    def package_file(cls, settings: BackboneSettings) -> Path:
        """Return the weight file that a Python package brings.

        Raises:
            InputError: when there is no such package, or it is not installed.
        """
        raise InputError(
            f"backbone.weights: no package brings weights of {settings.architecture}; give a weight file, or "
            "owner/model of the Hugging Face hub"
        )

    @classmethod
    def completed(cls, settings: BackboneSettings, file: WeightFile) -> BackboneSettings:
        """Return the settings with what they leave to the weights.

        Raises:
            InputError: when the file is of another kind of network, or has not what the settings ask for.
        """
        return settings

    def own_names(self, state: State) -> State:
        """Return the weights of a file under this backbone's names, without those that it has no place for.

        Weights that a file of the right network does not hold must stay: they are how a wrong file is known.
        """
        return state


def checked_taps(taps: Sequence[int], possible: range, of: str) -> tuple[int, ...]:
    """Return the blocks whose outputs are the features.

    Args:
        taps: their numbers.
        possible: all that there are. of: whose blocks they are.

    Raises:
        InputError: when there is none, one does not exist, or they do not ascend.
    """
    known = f"{of} has {possible[0]} to {possible[-1]}"
    if absent := [tap for tap in taps if tap not in possible]:
        raise InputError(f"backbone.taps: no block {', '.join(map(str, absent))} to take features from; {known}")
    if not taps or list(taps) != sorted(set(taps)):
        raise InputError(f"backbone.taps: {list(taps)}; expected block numbers that ascend, one or more; {known}")
    return tuple(taps)


def joined(taps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the outputs of several blocks as one feature map, in which each of them has the same weight.

    Args:
        taps: (B, C, h, w) each, of one size; C may differ.

    Returns:
        each L2-normalised per cell, put one behind the other along the channels, and all of it L2-normalised per cell.
    """
    return F.normalize(torch.cat([F.normalize(tap, dim=1) for tap in taps], dim=1), dim=1)
