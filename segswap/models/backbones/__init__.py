"""Backbones: pictures to features. A family of them is a module; ``FAMILIES`` lists them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from segswap.errors import InputError
from segswap.models.backbones.backbone import Backbone, BackboneSettings
from segswap.models.backbones.efficientnet import EfficientNet
from segswap.models.backbones.resnet import ResNet
from segswap.models.backbones.vit import ViT
from segswap.program import json_object

FAMILIES: tuple[type[Backbone], ...] = (ResNet, EfficientNet, ViT)

BACKBONES = {name: family for family in FAMILIES for name in family.architectures}
"""The family of each architecture."""

_UNUSED: dict[str, Any] = {"width": 64, "projection": None, "taps": None}
"""Settings that not every family has, and the value that says so: the configuration has these keys for all."""


def backbone_settings(values: Mapping[str, Any]) -> BackboneSettings:
    """Return the settings of a backbone from plain values, as the configuration and checkpoints have them.

    Raises:
        InputError: when the architecture is unknown, or the values are not settings of its family.
    """
    architecture = values.get("architecture") if isinstance(values, Mapping) else None
    if not isinstance(architecture, str) or architecture not in BACKBONES:
        raise InputError(f"backbone.architecture: {architecture!r}; expected one of {', '.join(BACKBONES)}")
    kind = BACKBONES[architecture].settings_type
    known = {field.name for field in dataclasses.fields(kind)}
    for key in values.keys() - known:
        if key not in _UNUSED:
            raise InputError(f"backbone.{key}: unknown; {architecture} has {', '.join(sorted(known))}")
        if values[key] != _UNUSED[key]:
            raise InputError(
                f"backbone.{key}: {values[key]!r}, but {architecture} has no {key} to choose; leave the key out"
            )
    return kind(**{key: value for key, value in values.items() if key in known})


def build(settings: BackboneSettings) -> Backbone:
    """Return a backbone with random weights.

    Raises:
        InputError: when the settings leave to a weight file what is to be built.
    """
    return BACKBONES[settings.architecture](settings)


def add_backbone_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a program that computes features, for ``segswap.models.checkpoint.load_backbone``."""
    parser.add_argument(
        "--weights", required=True, help="of the backbone: a file, 'package', or owner/model of the Hugging Face hub"
    )
    parser.add_argument("--backbone", type=_settings_argument, required=True, help="its architecture, as JSON")


def _settings_argument(text: str) -> BackboneSettings:
    try:
        return backbone_settings(json_object(text))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
