"""Which torch device work runs on: the one key ``compute.device``."""

from __future__ import annotations

import torch

from segswap.errors import InputError


def pick_device(name: str) -> torch.device:
    """Return a torch device; ``auto`` takes the GPU when there is one.

    Raises:
        InputError: when a GPU is asked for and none is there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: no GPU is visible to this process; set device to auto or cpu")
    return torch.device(name)
