"""Checkpoints: whole models in any form, and the backbones in weight files of others.

Everything is read without executing it. Forms: ``segswap.models.forms``, docs/formats.md.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from segswap.errors import InputError
from segswap.files import read_json_object
from segswap.models.backbones import BACKBONES, backbone_settings, build
from segswap.models.backbones.backbone import PACKAGE, Backbone, BackboneSettings, WeightFile
from segswap.models.forms import (
    CONFIG_NAME,
    SAFETENSORS,
    WEIGHTS_NAME,
    made_of_settings,
    read_contents,
    write_checkpoint,
    write_published,
)
from segswap.models.hub import PREPROCESSOR_NAME, locate
from segswap.models.segswap import SegSwap
from segswap.weights import is_described, is_state_dict, load_by_name, read_state_dict, read_tensors, write_state_dict


def save_checkpoint(path: str | os.PathLike, model: SegSwap, about: dict[str, Any]) -> None:
    """Write a checkpoint that says itself what it holds.

    Args:
        path: the file; appears whole.
        model: backbone and matcher.
        about: plain values on its origin (stage, steps, image_size, validation, seed, ...).
    """
    write_checkpoint(path, model.contents(about))


def load_checkpoint(source: str | os.PathLike, device: str | torch.device = "cpu") -> tuple[SegSwap, dict[str, Any]]:
    """Read a model of any form: checkpoint of ours or the published one, safetensors, folder, or name in the hub.

    Returns the model, in evaluation mode on the device, and what it says about itself (``model.about``):
    ``image_size``, for example, is the side in pixels of the pairs it was trained on.

    Raises:
        InputError: when it is missing or damaged, is no such model, or its weights do not fit what it says.
    """
    model = SegSwap.from_pretrained(source, device=device)
    return model, model.about


def save_published(path: str | os.PathLike, model: SegSwap) -> None:
    """Write a model in the form of the published checkpoint; see ``segswap.models.forms.write_published``."""
    write_published(path, model.contents())


def load_backbone(
    weights: str | os.PathLike, settings: BackboneSettings, device: str | torch.device = "cpu"
) -> Backbone:
    """Load a backbone, frozen, on the device; its ``settings`` are complete.

    Args:
        weights: a weight file, ``package`` (the Python package that brings them), or ``owner/model`` on the Hugging
            Face hub. Files of ``torch.save`` and ``.safetensors`` are read: those of ``save_backbone``, whole models
            of this project, and what each family knows. ResNets: MoCo v2, torchvision (also under ``model`` or
            ``state_dict``), the published SegSwap checkpoint.
        settings: which backbone. What they leave open is as in the file.
        device: torch device.

    Raises:
        InputError: when there are no such weights, or they do not fit: the missing and the unexpected names are listed.
    """
    family = BACKBONES[settings.architecture]
    file = _read_weights(family.package_file(settings) if weights == PACKAGE else locate(weights))
    with made_of_settings(file.origin):
        backbone = build(family.completed(settings, file))
    load_by_name(backbone, backbone.own_names(file.state), file.origin)
    return backbone.freeze().to(device)


_STATES = ("state_dict", "model", "backbone")
"""Where files of ``torch.save`` keep their tensors, if not at the top."""


def _read_weights(path: Path) -> WeightFile:
    """Read a weight file, or a folder in the layout of the hub."""
    if path.is_dir() or path.name == WEIGHTS_NAME:
        folder = path if path.is_dir() else path.parent
        if not (folder / WEIGHTS_NAME).is_file():
            raise InputError(
                f"{folder}: holds no {WEIGHTS_NAME}; expected a weight file, or a folder with {WEIGHTS_NAME}"
            )
        about = [folder / name for name in (CONFIG_NAME, PREPROCESSOR_NAME)]
        config = {key: value for file in about if file.is_file() for key, value in read_json_object(file).items()}
        return dataclasses.replace(_read_tensors(folder / WEIGHTS_NAME), config=config)
    return _read_tensors(path)


def _read_tensors(path: Path) -> WeightFile:
    if path.suffix != SAFETENSORS:
        content = read_state_dict(path)
        state = next((content[key] for key in _STATES if key in content), content)
        if not is_state_dict(state):
            raise InputError(
                f"{path}: holds {', '.join(map(str, list(content)[:6]))}; expected tensors by name, at the top or "
                f"below one of {', '.join(_STATES)}"
            )
        said = content.get("backbone_settings")
        return WeightFile(path, state, None if said is None else _settings(path, said))
    if not is_described(path):
        return WeightFile(path, read_tensors(path))
    contents = read_contents(path)
    return WeightFile(path, contents.backbone, _settings(path, contents.backbone_settings))


def _settings(path: Path, said: Any) -> BackboneSettings:
    with made_of_settings(path):
        return backbone_settings(said)


def save_backbone(path: str | os.PathLike, backbone: Backbone) -> None:
    """Write a backbone: its weights, and the settings that make it again."""
    write_state_dict(path, {"backbone": backbone.state_dict(), "backbone_settings": backbone.settings.described()})
