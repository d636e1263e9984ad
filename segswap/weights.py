"""Writing weight files whole, reading them without executing them, and loading them by name."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
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
    ArithmeticError,
    AttributeError,
    TypeError,
    MemoryError,
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
        _check_zip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of a pickle that it refuses then
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a weight file of torch.save") from None
    except OSError as error:  # also of a damaged directory, which leads to places that no file has
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected a weight file of torch.save. Check the path and who "
            "may read the file; where both are right, download the file again or make it again"
        ) from None
    except _NOT_WEIGHTS as error:
        remedy = "delete it and run again, or download it again"
        reason = str(error).partition("\n")[0] or type(error).__name__
        if not isinstance(error, (RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)):
            # Where the unpickler stumbled says nothing, and PyTorch's own words recommend to load it without safety.
            reason = "it is none, or holds more than tensors and plain values, which is not loaded"
            remedy = f"check the path; where it is right, {remedy}"
        raise InputError(f"{path}: not readable as a weight file ({reason}); {remedy}") from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, expected a dictionary of tensors")
    return state


def _check_zip(path: str | os.PathLike) -> None:
    """Raise ``ValueError`` for a file of ``torch.save`` whose bytes have changed, or which grows when it is read."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if packed := [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]:
            raise ValueError(f"{packed[0]} is compressed, which torch.save does not do")
        if damaged := archive.testzip():
            raise ValueError(f"the bytes of {damaged} have changed since it was written")


def is_state_dict(value: Any) -> bool:
    """Return whether a value is a dictionary of plain tensors by name, whose numbers are there and real."""
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and isinstance(tensor, torch.Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_complex())
        for name, tensor in value.items()
    )


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of named tensors, their types and shapes included, whatever their order and device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # As bytes: numpy does not know every type of number that PyTorch does.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


_DESCRIPTION = "segswap"
"""Key of the description in a safetensors file. It is the only one: their order in the file would be random."""


_REMEDY = "delete it and make it again, or download it again (in a git clone: git lfs pull)"


def _checksum(tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> str:
    text = json.dumps([description, tensors_sha256(tensors)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_safetensors(
    path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]
) -> None:
    """Write tensors and what they are as a whole safetensors file; equal content gives equal bytes.

    Args:
        path: the file.
        tensors: by name; on any device, in any memory format.
        description: JSON object, kept in the file's metadata together with the SHA-256 of everything.
    """
    stated = {**description, "sha256": _checksum(tensors, description)}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(whole, {_DESCRIPTION: json.dumps(stated, sort_keys=True)}))


def read_safetensors(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a file of ``write_safetensors`` on the CPU: tensors by name, and the description.

    The format has no checksum of its own; the SHA-256 that the description states is compared.

    Raises:
        InputError: when the file is missing, damaged, or says nothing about itself.
    """
    tensors = read_tensors(path)
    with _opened(path) as file:
        metadata = file.metadata() or {}
    if _DESCRIPTION not in metadata:
        raise InputError(
            f"{path}: its metadata has no {_DESCRIPTION!r} but {sorted(metadata) or 'nothing'}, so nobody knows which "
            "model the weights are of; expected a file of: segswap export CHECKPOINT --form safetensors"
        )
    try:
        description = json.loads(metadata[_DESCRIPTION])
        stated = description.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: what it says about itself is not readable; {_REMEDY}") from None
    if stated != _checksum(tensors, description):
        raise InputError(f"{path}: its bytes have changed since it was written (SHA-256); {_REMEDY}")
    return tensors, description


def is_described(path: str | os.PathLike) -> bool:
    """Return whether a safetensors file says what it is, as those of ``write_safetensors`` do."""
    with _opened(path) as file:
        return _DESCRIPTION in (file.metadata() or {})


def read_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Read the tensors of any safetensors file on the CPU, by name.

    Raises:
        InputError: when the file is missing or damaged.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[safe_open]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a weight file in the form of safetensors") from None
    except SafetensorError as error:
        raise InputError(f"{path}: not readable as safetensors ({error}); {_REMEDY}") from None


def check_fit(module: nn.Module, state: dict[str, torch.Tensor], origin: str | os.PathLike) -> None:
    """Compare a state dict with a module's, every name and shape; the module may be on the device ``meta``.

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


def load_by_name(module: nn.Module, state: dict[str, torch.Tensor], origin: str | os.PathLike) -> None:
    """Load a state dict into a module, every name and shape exact.

    Raises:
        InputError: as ``check_fit``.
    """
    check_fit(module, state, origin)
    module.load_state_dict(state)
