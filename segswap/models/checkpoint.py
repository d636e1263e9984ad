"""Checkpoints: whole models in any form, and the trunks in weight files of others.

Everything is read without executing it. Forms: ``segswap.models.forms``, docs/formats.md.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from segswap.models.backbone import Backbone, BackboneSettings
from segswap.models.forms import torchvision_names, write_checkpoint, write_published
from segswap.models.segswap import SegSwap
from segswap.weights import load_by_name, read_state_dict, write_state_dict

_MOCO_PREFIX = "module.encoder_q."


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


def load_backbone(path: str | os.PathLike, settings: BackboneSettings, device: str | torch.device = "cpu") -> Backbone:
    """Load trunk weights by name from any of the known files; the trunk is frozen, on the device.

    Known are MoCo v2 checkpoints (``state_dict`` with ``module.encoder_q.``), plain torchvision ResNet state
    dicts (also under ``model`` or ``state_dict``), the published SegSwap checkpoint, and our own trunks
    (``save_backbone``). ``layer4`` and ``fc``, which the trunk does not have, are dropped.

    Raises:
        InputError: listing missing and unexpected names when the weights do not fit ``settings``.
    """
    content = read_state_dict(path)
    state = next((content[key] for key in ("state_dict", "model", "backbone") if key in content), content)
    if any(key.startswith(_MOCO_PREFIX) for key in state):
        state = {key.removeprefix(_MOCO_PREFIX): v for key, v in state.items() if key.startswith(_MOCO_PREFIX)}
    if "0.weight" in state:
        state = torchvision_names(state)
    kept = {key: value for key, value in state.items() if not key.startswith(("layer4.", "fc."))}
    backbone = Backbone(settings)
    load_by_name(backbone, kept, path)
    return backbone.freeze().to(device)


def save_backbone(path: str | os.PathLike, backbone: Backbone) -> None:
    """Write a trunk's weights under torchvision's names."""
    write_state_dict(path, {"backbone": backbone.state_dict()})
