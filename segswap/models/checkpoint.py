"""Checkpoints: ours (self-describing, plain tensors and values), and the weight files of others.

Everything is read with ``weights_only=True``. Format: docs/formats.md.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import torch

from segswap.errors import InputError
from segswap.models.backbone import Backbone, BackboneSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.weights import load_by_name, read_state_dict, write_state_dict

FORMAT = "segswap-1"

# Children of the published checkpoint's nn.Sequential and their torchvision names.
_PUBLISHED_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}
_MOCO_PREFIX = "module.encoder_q."


def save_checkpoint(path: str | os.PathLike, model: SegSwap, about: dict[str, Any]) -> None:
    """Write a checkpoint that says itself what it holds.

    Args:
        path: the file; appears whole.
        model: backbone and matcher.
        about: plain values on its origin (stage, steps, validation, seed, ...).
    """
    write_state_dict(
        path,
        {
            "format": FORMAT,
            "architecture": "transformer",
            "backbone_settings": dataclasses.asdict(model.backbone.settings),
            "backbone": model.backbone.state_dict(),
            "matcher_settings": dataclasses.asdict(model.matcher.settings),
            "matcher": model.matcher.state_dict(),
            "about": about,
        },
    )


def load_checkpoint(path: str | os.PathLike, device: str | torch.device = "cpu") -> tuple[SegSwap, dict[str, Any]]:
    """Read a checkpoint of ours or the published one (``backbone``, ``encoder``, ``optimiser``).

    Returns the model, in evaluation mode on the device, and what the checkpoint says about itself.

    Raises:
        InputError: when the file is not such a checkpoint or its weights do not fit what it says.
    """
    content = read_state_dict(path)
    if content.get("format") == FORMAT:
        backbone = Backbone(BackboneSettings(**content["backbone_settings"]))
        matcher = Transformer(TransformerSettings(**content["matcher_settings"]))
        backbone_state, matcher_state, about = content["backbone"], content["matcher"], content["about"]
    elif {"backbone", "encoder"} <= content.keys():
        backbone = Backbone(BackboneSettings("resnet50"))
        matcher = Transformer(TransformerSettings("small", backbone.channels))
        backbone_state = _children_renamed(content["backbone"], _PUBLISHED_CHILDREN)
        matcher_state, about = content["encoder"], {"origin": "published checkpoint"}
    else:
        raise InputError(
            f"{path}: keys {sorted(content)[:6]}; expected a checkpoint of this project ('format': {FORMAT!r}) or the "
            "published one ('backbone', 'encoder')"
        )
    load_by_name(backbone, backbone_state, path)
    load_by_name(matcher, matcher_state, path)
    return SegSwap(backbone, matcher).to(device).eval(), about


def _children_renamed(state: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, torch.Tensor]:
    """Return a state with new names of the module's children; those without one keep theirs."""
    renamed = {}
    for key, value in state.items():
        child, _, rest = key.partition(".")
        renamed[f"{names.get(child, child)}.{rest}"] = value
    return renamed


def save_published(path: str | os.PathLike, model: SegSwap) -> None:
    """Write a model in the form of the published checkpoint: ``backbone``, ``encoder`` and an empty ``optimiser``.

    Raises:
        InputError: when the trunk is none that the published form can hold.
    """
    settings = model.backbone.settings
    if settings.architecture != "resnet50" or settings.width != 64 or settings.projection:
        raise InputError(
            f"{path}: the published form holds a plain ResNet-50, this model's trunk is "
            f"{dataclasses.asdict(settings)}; keep the checkpoint in this project's form"
        )
    children = {name: child for child, name in _PUBLISHED_CHILDREN.items()}
    backbone = _children_renamed(model.backbone.state_dict(), children)
    write_state_dict(path, {"backbone": backbone, "encoder": model.matcher.state_dict(), "optimiser": {}})


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
        state = _children_renamed(state, _PUBLISHED_CHILDREN)
    kept = {key: value for key, value in state.items() if not key.startswith(("layer4.", "fc."))}
    backbone = Backbone(settings)
    load_by_name(backbone, kept, path)
    return backbone.freeze().to(device)


def save_backbone(path: str | os.PathLike, backbone: Backbone) -> None:
    """Write a trunk's weights under torchvision's names."""
    write_state_dict(path, {"backbone": backbone.state_dict()})
