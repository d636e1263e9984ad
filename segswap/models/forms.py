"""The forms in which a model is kept, each read to and written from the same ``Contents``.

Ours (``.pt``) and the published one are files of ``torch.save``, read without executing anything; ``.safetensors``
holds the same as ours, for other programs, alone or in a folder. Format: docs/formats.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segswap import __version__
from segswap.errors import InputError
from segswap.files import read_json, write_json
from segswap.models.architectures import ARCHITECTURES
from segswap.models.backbones import backbone_settings, build
from segswap.models.backbones.backbone import Backbone
from segswap.models.backbones.resnet import PUBLISHED_CHILDREN, ResNet, ResNetSettings, children_renamed
from segswap.models.transformer import TransformerSettings
from segswap.weights import (
    check_fit,
    is_state_dict,
    load_by_name,
    read_safetensors,
    read_state_dict,
    write_safetensors,
    write_state_dict,
)

FORMAT = "segswap-1"
WEIGHTS_NAME, CONFIG_NAME, CARD_NAME = "model.safetensors", "config.json", "README.md"
"""Files of a folder."""

SAFETENSORS = ".safetensors"
"""Suffix by which such a file is known; all other files are read as those of ``torch.save``."""

State = dict[str, torch.Tensor]

PUBLISHED_ORIGIN = "published checkpoint"
"""What the published checkpoint has as ``about["origin"]``."""

_PUBLISHED_ABOUT = {"origin": PUBLISHED_ORIGIN, "image_size": 480}
_PUBLISHED_BACKBONE, _PUBLISHED_SIZE = ResNetSettings("resnet50"), "small"


@dataclasses.dataclass(frozen=True)
class Contents:
    """A model as plain values and tensors.

    Attributes:
        architecture: of the matcher, a name of ``ARCHITECTURES``.
        backbone_settings, matcher_settings: fields of the settings of either.
        backbone, matcher: state dicts.
        about: plain values on the model's origin (stage, steps, image_size, ...).
    """

    architecture: str
    backbone_settings: dict[str, Any]
    matcher_settings: dict[str, Any]
    backbone: State
    matcher: State
    about: dict[str, Any]

    def description(self) -> dict[str, Any]:
        """Return everything but the weights, as values that JSON can hold; of numbers that are not finite, null."""
        plain = {
            "format": FORMAT,
            "architecture": self.architecture,
            "backbone_settings": self.backbone_settings,
            "matcher_settings": self.matcher_settings,
            "about": _finite(self.about),
        }
        return json.loads(json.dumps(plain, allow_nan=False))

    def build(self, origin: str | os.PathLike) -> tuple[Backbone, nn.Module]:
        """Return backbone and matcher, the weights loaded by name.

        Args:
            origin: file that the contents come from, for messages.

        Raises:
            InputError: when the architecture is unknown, or settings or weights do not fit it.
        """
        if self.architecture not in ARCHITECTURES:
            raise InputError(
                f"{origin}: a model of the architecture {self.architecture!r}; segswap {__version__} knows "
                f"{', '.join(sorted(ARCHITECTURES))}. Use the version of segswap that wrote it, or a newer one"
            )
        # Settings may ask for more memory than there is; the weights, which are there, say whether they are right.
        with torch.device("meta"):
            backbone, matcher = self._modules(origin)
        check_fit(backbone, self.backbone, origin)
        check_fit(matcher, self.matcher, origin)
        backbone, matcher = self._modules(origin)
        load_by_name(backbone, self.backbone, origin)
        load_by_name(matcher, self.matcher, origin)
        return backbone, matcher

    def _modules(self, origin: str | os.PathLike) -> tuple[Backbone, nn.Module]:
        """Return backbone and matcher with random weights."""
        known = ARCHITECTURES[self.architecture]
        with made_of_settings(origin):
            backbone = build(backbone_settings(self.backbone_settings))
            return backbone, known.matcher(known.settings(**self.matcher_settings))


@contextlib.contextmanager
def made_of_settings(origin: str | os.PathLike) -> Iterator[None]:
    """Raise ``InputError`` where the settings that a file states, which may be any values, make no model."""
    try:
        yield
    except (TypeError, LookupError, ValueError, ArithmeticError, AttributeError, RuntimeError, InputError) as error:
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"{origin}: its settings make no model of this version ({reason}). Use the version of segswap that wrote "
            "it, or make the file again"
        ) from None


def _finite(value: Any) -> Any:
    """Return a value with null for numbers that are not finite: JSON knows none."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


_DESCRIBED = {"architecture": str, "backbone_settings": dict, "matcher_settings": dict, "about": dict}


def _contents(
    path: Path, described: Mapping[str, Any], backbone: Mapping[str, Any], matcher: Mapping[str, Any]
) -> Contents:
    """Put together what a file holds, after a look at the kinds of its values."""
    wrong = [name for name, kind in _DESCRIBED.items() if not isinstance(described.get(name), kind)]
    states = {"backbone": backbone, "matcher": matcher}
    wrong += [name for name, state in states.items() if not is_state_dict(state)]
    if wrong:
        raise InputError(
            f"{path}: {', '.join(wrong)} missing, or not what {FORMAT} has there; make the file again, or download it "
            "again"
        )
    return Contents(**{name: described[name] for name in _DESCRIBED}, **states)


def read_contents(path: str | os.PathLike) -> Contents:
    """Read a model's file of any form, or a folder of ``write_folder``.

    Raises:
        InputError: when it is missing, damaged, or none of these; also when a folder's ``config.json`` says something
            else than its weights.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    content = read_state_dict(path)
    if content.get("format") == FORMAT:
        return _contents(path, content, content.get("backbone"), content.get("matcher"))
    if {"backbone", "encoder"} <= content.keys():
        return _from_published(path, content)
    raise InputError(
        f"{path}: keys {sorted(map(str, content))[:6]}; expected a checkpoint of this project ('format': {FORMAT!r}) "
        "or the published one ('backbone', 'encoder')"
    )


def _from_published(path: Path, content: Mapping[str, Any]) -> Contents:
    backbone = content["backbone"]
    if is_state_dict(backbone):
        backbone = children_renamed(backbone, PUBLISHED_CHILDREN)
    described = {
        "architecture": "transformer",
        "backbone_settings": _PUBLISHED_BACKBONE.described(),
        "matcher_settings": dataclasses.asdict(
            TransformerSettings(_PUBLISHED_SIZE, ResNet(_PUBLISHED_BACKBONE).channels)
        ),
        "about": content.get("about", dict(_PUBLISHED_ABOUT)),
    }
    return _contents(path, described, backbone, content["encoder"])


def _read_safetensors(path: Path) -> Contents:
    tensors, description = read_safetensors(path)
    if description.get("format") != FORMAT:
        raise InputError(
            f"{path}: in the format {description.get('format')!r}; segswap {__version__} reads {FORMAT!r}. Use the "
            "version of segswap that wrote it"
        )
    states: dict[str, State] = {"backbone": {}, "matcher": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part not in states:
            raise InputError(f"{path}: holds {name!r}; expected names that begin with backbone. or matcher.")
        states[part][rest] = tensor
    return _contents(path, description, states["backbone"], states["matcher"])


def _read_folder(folder: Path) -> Contents:
    weights, config = folder / WEIGHTS_NAME, folder / CONFIG_NAME
    if not weights.is_file():
        raise InputError(f"{folder}: holds no {WEIGHTS_NAME}; expected a folder that save_pretrained has written")
    contents = _read_safetensors(weights)
    # The weights say everything themselves. Somebody who has changed the copy beside them expects that it counts.
    if config.is_file() and read_json(config) != contents.description():
        raise InputError(
            f"{config}: says something else than {WEIGHTS_NAME} says itself, which is what counts; delete "
            f"{CONFIG_NAME}, or write the folder again with save_pretrained"
        )
    return contents


def write_checkpoint(path: str | os.PathLike, contents: Contents) -> None:
    """Write a model as a checkpoint of ours: a file of ``torch.save`` with tensors and plain values."""
    fields = {field.name: getattr(contents, field.name) for field in dataclasses.fields(contents)}
    write_state_dict(path, {"format": FORMAT, **fields})


def write_safetensors_file(path: str | os.PathLike, contents: Contents) -> None:
    """Write a model as one safetensors file, its description in the metadata.

    Raises:
        InputError: when the name has another suffix, by which the file would not be known.
    """
    if Path(path).suffix != SAFETENSORS:
        raise InputError(f"{path}: expected a name that ends in {SAFETENSORS}")
    states = {"backbone": contents.backbone, "matcher": contents.matcher}
    tensors = {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}
    write_safetensors(path, tensors, contents.description())


def write_folder(folder: str | os.PathLike, contents: Contents) -> None:
    """Write ``model.safetensors`` and, for readers and the Hugging Face hub, its description as ``config.json``."""
    write_safetensors_file(Path(folder, WEIGHTS_NAME), contents)
    write_json(Path(folder, CONFIG_NAME), contents.description())


def write_published(path: str | os.PathLike, contents: Contents) -> None:
    """Write a model in the form of the published checkpoint: ``backbone``, ``encoder`` and an empty ``optimiser``.

    ``about`` is a fourth entry, which other readers pass over.

    Raises:
        InputError: when backbone or matcher are none that the published form can hold.
    """
    matcher = contents.architecture, contents.matcher_settings.get("size")
    if matcher != ("transformer", _PUBLISHED_SIZE) or contents.backbone_settings != _PUBLISHED_BACKBONE.described():
        raise InputError(
            f"{path}: the published form holds a plain ResNet-50 and a transformer of size {_PUBLISHED_SIZE}, this "
            f"model has the backbone {contents.backbone_settings} and the {contents.architecture} "
            f"{contents.matcher_settings}; choose another form"
        )
    backbone = children_renamed(contents.backbone, {name: child for child, name in PUBLISHED_CHILDREN.items()})
    content = {"backbone": backbone, "encoder": contents.matcher, "optimiser": {}, "about": contents.about}
    write_state_dict(path, content)
