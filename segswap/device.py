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
        help="where it computes: auto (the GPU where there is one), cpu, cuda, cuda:1 (default: %(default)s)",
    )


def pick_device(name: str) -> torch.device:
    """Return a torch device; ``auto`` takes the GPU when there is one.

    Raises:
        InputError: when the name is none of a device, or that device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r}: no such device; expected auto, cpu, cuda, or cuda: with a number") from None
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        found = f"only {count}, counted from 0," if count else "no GPU"
        raise InputError(f"device {name!r}: {found} is visible to this process; set device to auto or cpu")
    return device


def pick_precision(name: str, device: torch.device, on_gpu: str) -> str:
    """Return a number format's name; ``auto`` is ``float32`` on a CPU, ``on_gpu`` elsewhere."""
    if name == "auto":
        return "float32" if device.type == "cpu" else on_gpu
    return name


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Return a context in which products are computed in ``float32``, ``float16`` or ``bfloat16``."""
    dtype = getattr(torch, precision)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
