"""Say what a checkpoint, a pair set or a feature store is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from segswap.errors import InputError
from segswap.files import read_json
from segswap.models.checkpoint import load_checkpoint

EXAMPLES = """
segswap info results/demo/checkpoints/stage2.pt
segswap info results/demo/pairs/train/2obj/manifest.json
"""


def describe(path: str) -> dict[str, Any]:
    """Return what a file of this project says about itself: a checkpoint, a pair set, or a feature store.

    Raises:
        InputError: when it is none of these.
    """
    if path.endswith((".pt", ".pth", ".tar")):
        model, about = load_checkpoint(path)
        return {
            "file": "checkpoint",
            "backbone": vars(model.backbone.settings),
            "transformer": vars(model.matcher.settings),
            "parameters": sum(p.numel() for p in model.matcher.parameters()),
            **about,
        }
    if path.endswith(".npy"):
        header = read_json(Path(path).with_suffix(".json"))
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        return {"file": "feature store", "shape": list(shape), **{k: v for k, v in header.items() if k != "names"}}
    if path.endswith("manifest.json"):
        content = read_json(path)
        return {"file": "pair set", **{k: v for k, v in content.items() if k != "shards"}}
    raise InputError(f"{path}: expected a checkpoint (.pt), a feature store (.npy) or a pair set's manifest.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file")


def execute(args: argparse.Namespace) -> None:
    """Print the description as JSON."""
    print(json.dumps(describe(args.file), indent=1))
