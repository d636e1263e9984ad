"""Writing weight files whole, reading them without executing them, and loading them by name."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from typing import Any

import torch
from torch import nn

from segswap.errors import InputError
from segswap.files import write_bytes

# What torch.load raises for other files, or damaged ones: its unpickler runs into whatever their bytes lead to.
_NOT_WEIGHTS = (
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    ValueError,
    LookupError,
    AssertionError,
    AttributeError,
    TypeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def write_state_dict(path: str | os.PathLike, content: dict[str, Any], orphan: bool = False) -> None:
    """Write tensors and plain values as a whole file of ``torch.save``; ``orphan`` as for ``whole_file``.

    It is put together in memory: on a full disk torch's own writer says something else than that.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue(), orphan)


def read_state_dict(path: str | os.PathLike) -> dict[str, Any]:
    """Read a file of ``torch.save`` on the CPU, tensors and plain containers only (``weights_only=True``).

    Every byte is compared with the file's own checksums, which PyTorch does not look at: a weight with a flipped bit
    is a weight like any other.

    Raises:
        InputError: when the file is missing, is damaged, is not such a file, or holds other objects than tensors.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"the bytes of {damaged} have changed since it was written")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a weight file of torch.save") from None
    except _NOT_WEIGHTS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            # PyTorch's own words recommend to load it without safety.
            reason = "it is none, or holds more than tensors and plain values, which is not loaded"
        raise InputError(
            f"{path}: not readable as a weight file ({reason}); delete it and run again, or download it again"
        ) from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, expected a dictionary of tensors")
    return state


def load_by_name(module: nn.Module, state: dict[str, torch.Tensor], origin: str | os.PathLike) -> None:
    """Load a state dict into a module, every name and shape exact.

    Raises:
        InputError: listing the missing and the unexpected names and those of another shape.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or unexpected or shapes:

        def listed(names: list[str]) -> str:
            return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "none"

        raise InputError(
            f"{origin}: weights do not fit the model. Missing: {listed(missing)}. Unexpected: {listed(unexpected)}. "
            f"Other shape: {listed(shapes)}. Check the model's size and architecture in the configuration"
        )
    module.load_state_dict(state)
