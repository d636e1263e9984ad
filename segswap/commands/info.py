"""Say what a model, a pair set or a feature store is; without an argument the model that comes with segswap.

Models: checkpoints, the published one, .safetensors, folders of ``save_pretrained``, and owner/model of the Hugging
Face hub.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from segswap.errors import InputError
from segswap.files import NOT_ARRAYS, is_repository, read_json
from segswap.models.checkpoint import load_checkpoint
from segswap.models.forms import PUBLISHED_ORIGIN, SAFETENSORS, WEIGHTS_NAME
from segswap.models.hub import SHIPPED

EXAMPLES = """\
segswap info
segswap info results/demo/checkpoints/stage2.pt
segswap info my-model
segswap info results/demo/pairs/train/1obj
segswap info results/demo/features/brueghel/database.npy
"""

_MANIFEST = "manifest.json"

_PUBLISHED = {"published": "by the paper's authors, as model/hard_mining_neg5.pth of github.com/XiSHEN0220/SegSwap"}
"""Said of the published checkpoint, also where it was converted; by its form, as nobody has stated a hash of it."""


def _describe_model(source: str) -> dict[str, Any]:
    model, about = load_checkpoint(source)
    contents = model.contents()
    return {
        "file": "checkpoint",
        **(_PUBLISHED if about.get("origin") == PUBLISHED_ORIGIN else {}),
        "architecture": contents.architecture,
        "backbone": contents.backbone_settings,
        contents.architecture: contents.matcher_settings,
        "parameters": sum(p.numel() for p in model.matcher.parameters()),
        **about,
    }


def _described(path: Path, what: str) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, expected {what}; restore or remake the file")
    return content


def _describe_features(path: Path) -> dict[str, Any]:
    header = _described(path.with_suffix(".json"), "the header of a feature store")
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except NOT_ARRAYS as error:
        raise InputError(f"{path}: not readable as a feature store ({error}); delete it and run again") from None
    return {"file": "feature store", "shape": list(shape), **{k: v for k, v in header.items() if k != "names"}}


def _describe_pairs(manifest: Path) -> dict[str, Any]:
    content = _described(manifest, "the manifest of a pair set")
    return {"file": "pair set", **{k: v for k, v in content.items() if k != "shards"}}


def describe(source: str) -> dict[str, Any]:
    """Return what something of this project says about itself: a model, a pair set, or a feature store.

    Args:
        source: file, folder, or repository of the Hugging Face hub.

    Raises:
        InputError: when it is none of these, is missing or damaged.
    """
    path = Path(source)
    if path.name == _MANIFEST or (path / _MANIFEST).is_file():
        return _describe_pairs(path if path.name == _MANIFEST else path / _MANIFEST)
    if path.suffix == ".npy":
        return _describe_features(path)
    if path.suffix in (".pt", ".pth", ".tar", SAFETENSORS) or (path / WEIGHTS_NAME).is_file() or is_repository(source):
        return _describe_model(source)
    found = "a folder without these" if path.is_dir() else "another file" if path.exists() else "nothing"
    raise InputError(
        f"{source}: {found}; expected a checkpoint (.pt, .pth, {SAFETENSORS}, a folder with {WEIGHTS_NAME}, or "
        f"owner/model of the Hugging Face hub), a feature store (.npy), or a pair set ({_MANIFEST} or its folder)"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "file",
        nargs="?",
        default=str(SHIPPED),
        help="or folder, or owner/model of the Hugging Face hub (default: the model that comes with segswap)",
    )


def execute(args: argparse.Namespace) -> None:
    """Print the description as JSON."""
    print(json.dumps(describe(args.file), indent=1))
