"""Which torch device work runs on (the one key ``compute.device``), and in which number format."""

from __future__ import annotations

import argparse
import contextlib

import torch

from segswap.errors import InputError


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, for ``pick_device``."""
    parser.add_argument(
        "--device",
        default="auto",
        help="where it computes: auto (the GPU where there is one, the default), cpu, cuda, cuda:1",
    )


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


def pick_precision(name: str, device: torch.device, on_gpu: str) -> str:
    """Return a number format's name; ``auto`` is ``float32`` on a CPU, ``on_gpu`` elsewhere."""
    if name == "auto":
        return "float32" if device.type == "cpu" else on_gpu
    return name


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Return a context in which products are computed in ``float32``, ``float16`` or ``bfloat16``."""
    dtype = getattr(torch, precision)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
