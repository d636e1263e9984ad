"""The feature store: features of a list of images, computed once, float16, memory-mapped.

Two files: ``<store>.npy``, an array (n, h, w, C) that numpy opens with ``mmap_mode="r"``, and
``<store>.json`` with the names in order, the preprocessing and the key of the backbone's weights, so that a
store that belongs to another list, another size or another backbone is an error and not a recall of 1 %.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segswap.errors import InputError
from segswap.files import NOT_ARRAYS, claim, content_key, read_json, refuse_orphans, write_json
from segswap.geometry import grid_shape
from segswap.images import UnreadableImage, resize
from segswap.models.backbones.backbone import Backbone
from segswap.progress import progress

Loader = Callable[[], np.ndarray]
"""Reads one image, RGB uint8 (H, W, 3)."""

_SAVE_SECONDS = 30.0
"""Time between two notes of how far an extraction is."""


def preprocessing(backbone: Backbone) -> str:
    """Return what happens to an image before and behind a backbone, in words; the header of a store has it."""
    return f"squashed to size, RGB / 255, {backbone.normalisation}; features L2-normalised per cell"


def backbone_key(backbone: Backbone) -> str:
    """Return a 16-digit key of the backbone's weights, and of what else decides its features."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(backbone.distinction.encode())
    return digest.hexdigest()[:16]


def images_to_tensor(images: Sequence[np.ndarray], device: torch.device | str = "cpu") -> torch.Tensor:
    """Stack RGB uint8 (H, W, 3) pictures of one size to float32 (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255


@torch.inference_mode()
def extract_features(
    names: Sequence[str],
    loaders: Sequence[Loader],
    backbone: Backbone,
    size: tuple[int, int],
    store: str | os.PathLike,
    batch: int = 16,
    known: Mapping[str, np.ndarray] | None = None,
    skip_unreadable: bool = False,
) -> dict[str, str]:
    """Write the feature store of a list of images, one pass, each image squashed to ``size``.

    An extraction that was cut off goes on where it was: what is done lies beside the store, under a hidden name, until
    the store is whole. At no time are more features than a batch's in memory.

    Args:
        names: one per image, in the order of the store; must be distinct.
        loaders: read the images.
        backbone: on the device that is to be used.
        size: (width, height) in pixels, multiples of 16.
        store: path of the ``.npy`` file; the header is written beside it, last.
        batch: images per forward pass.
        known: features of some images, float16 (h, w, C) by name, which are copied instead of computed.
        skip_unreadable: leave images out that do not open, instead of raising.

    Returns:
        why images were left out, by name.

    Raises:
        InputError: when names repeat, an image does not open (with ``skip_unreadable``: none does), or the disk has
            too little room.
    """
    store = Path(store)
    if len(set(names)) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise InputError(f"{store}: image {twice!r} is listed more than once; names must be distinct")
    device = next(backbone.parameters()).device
    # The channels of a cell lie together: backbone and matcher compute so, and a score reads whole cells.
    shape = (len(names), *grid_shape(size[::-1]), backbone.channels)
    header = {
        "names": list(names),
        "size": list(size),
        "channels": backbone.channels,
        "preprocessing": preprocessing(backbone),
        "backbone": backbone_key(backbone),
    }
    known = known or {}
    with _Unfinished(store, shape, content_key([header, list(shape)])) as unfinished:
        for start in progress(range(unfinished.done, len(names), batch), f"features ({store.stem}, batches)"):
            some = slice(start, start + batch)
            images, left_out = {}, {}
            for name, load in zip(names[some], loaders[some], strict=True):
                try:
                    if name not in known:
                        images[name] = resize(load(), size)
                except UnreadableImage as error:
                    if not skip_unreadable:
                        raise
                    left_out[name] = str(error)
            rows = {name: known[name] for name in names[some] if name in known}
            if images:
                found = backbone(images_to_tensor(list(images.values()), device)).permute(0, 2, 3, 1)
                rows |= dict(zip(images, found.half().cpu().numpy(), strict=True))
            unfinished.add([rows[name] for name in names[some] if name in rows], left_out)
        left_out = unfinished.left_out
        if names and len(left_out) == len(names):
            unfinished.done = 0  # the next attempt is to look again
            raise InputError(f"{store}: not one of {len(names)} images opens; first: {next(iter(left_out.values()))}")
        refuse_orphans()
    write_json(store.with_suffix(".json"), {**header, "names": [name for name in names if name not in left_out]})
    return left_out


class _Unfinished:
    """A store that is being written: the array, how much of it is done, and the note of both that a later run reads.

    As a context it becomes the store at the end; after an error, or a kill, it stays for the next attempt.

    Attributes:
        done: images that have been looked at.
        left_out: why some of them have no row, by name.
    """

    def __init__(self, store: Path, shape: tuple[int, ...], key: str) -> None:
        self._store, self._key = store, key
        self._array_path = store.with_name(f".{store.name}.unfinished")
        self._note_path = store.with_name(f".{store.name}.unfinished.json")
        self._lock_path = store.with_name(f".{store.name}.unfinished.lock")
        self._claim = claim(self._lock_path, f"the features in {store}")
        needed = int(np.prod(shape)) * 2
        print(f"{store}: {shape[0]} images, {needed / 1e6:.1f} MB of features", flush=True)
        self.done, self.left_out = self._done_before()
        if self.done:
            print(f"{store}: going on after {self.done} images", flush=True)
            self._array = np.lib.format.open_memmap(self._array_path, mode="r+")
        else:
            self._remove()
            free = shutil.disk_usage(store.parent).free
            if needed > free:
                self._release()
                raise InputError(
                    f"{store}: needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free; make room"
                )
            self._array = np.lib.format.open_memmap(self._array_path, mode="w+", dtype=np.float16, shape=shape)
        self._saved_at = time.monotonic()

    def _done_before(self) -> tuple[int, dict[str, str]]:
        """Return how many images an earlier attempt at this very store has done, and those it left out."""
        if not (self._array_path.is_file() and self._note_path.is_file()):
            return 0, {}
        note = read_json(self._note_path)
        return (note["done"], note.get("left_out", {})) if note.get("key") == self._key else (0, {})

    def add(self, features: Sequence[np.ndarray], left_out: dict[str, str]) -> None:
        """Write the features of the next images, float16 (h, w, C) each, and note those that have none."""
        start = self.done - len(self.left_out)
        if features:
            self._array[start : start + len(features)] = features
        self.done += len(features) + len(left_out)
        self.left_out |= left_out
        if time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        self._array.flush()
        write_json(self._note_path, {"key": self._key, "done": self.done, "left_out": self.left_out}, orphan=True)
        self._saved_at = time.monotonic()

    def _remove(self) -> None:
        for path in (self._array_path, self._note_path):
            path.unlink(missing_ok=True)

    def _release(self) -> None:
        self._lock_path.unlink(missing_ok=True)
        self._claim.close()

    def __enter__(self) -> _Unfinished:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._array.flush()
            shape = (len(self._array) - len(self.left_out), *self._array.shape[1:])
            del self._array
            if self.left_out:
                _shorten(self._array_path, shape)
            os.replace(self._array_path, self._store)
            self._remove()
        elif self.done:
            self._save()
        else:
            self._remove()
        self._release()


def _shorten(path: Path, shape: tuple[int, ...]) -> None:
    """Cut the end off a float16 array file. Numpy pads headers, so that one of fewer rows has the same length."""
    with open(path, "r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        file.seek(0)
        header = {"descr": np.dtype(np.float16).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        if file.tell() != start:
            raise RuntimeError(f"{path}: header of {start} bytes, the new one has {file.tell()}")
        file.truncate(start + int(np.prod(shape)) * 2)


class FeatureStore:
    """Features of named images, read as needed.

    Attributes:
        names: in the order of the store.
        shape: (h, w) in cells.
        channels: C.
    """

    def __init__(self, store: str | os.PathLike, backbone: Backbone, names: Sequence[str] | None = None) -> None:
        """Open a store written by ``extract_features``.

        Args:
            store: the ``.npy`` file.
            backbone: that the features must come from.
            names: that the store must hold, in this order.

        Raises:
            InputError: when the files are missing or do not agree with each other, the backbone or the names.
        """
        self._path = store = Path(store)
        header = read_json(store.with_suffix(".json"))
        try:
            self._array = np.load(store, mmap_mode="r", allow_pickle=False)
        except NOT_ARRAYS as error:
            raise InputError(f"{store}: not readable as a feature store ({error}); delete it and run again") from None
        self.names: list[str] = header["names"]
        if len(self.names) != len(self._array):
            raise InputError(f"{store}: {len(self._array)} features, {len(self.names)} names; delete it and run again")
        if header.get("preprocessing") != preprocessing(backbone):
            raise InputError(f"{store}: features of images prepared in another way; delete the store and run again")
        if header["backbone"] != backbone_key(backbone):
            raise InputError(f"{store}: features of another backbone; delete the store and run again")
        if names is not None and list(names) != self.names:
            pairs = zip([*names, None], [*self.names, None], strict=False)
            place, (wanted, found) = next((n, both) for n, both in enumerate(pairs) if both[0] != both[1])
            raise InputError(
                f"{store}: holds other images than asked for; first difference at {place}: expected {wanted!r}, "
                f"found {found!r}. Delete the store and run again"
            )
        self._place = {name: place for place, name in enumerate(self.names)}
        self.channels: int = self._array.shape[3]
        self.shape: tuple[int, int] = self._array.shape[1:3]

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the file itself; pickled, a mapped array would travel whole.
        return {name: value for name, value in self.__dict__.items() if name != "_array"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._array = np.load(self._path, mmap_mode="r", allow_pickle=False)

    def __len__(self) -> int:
        return len(self.names)

    def place(self, name: str) -> int:
        """Return the position of a named image."""
        return self._place[name]

    def stored(self, place: int) -> np.ndarray:
        """Return the features at a position as they lie on the disk, float16 (h, w, C), not yet read."""
        return self._array[place]

    def read(self, places: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Return the features at positions, float32 (n, C, h, w), channels last in memory, on the CPU."""
        found = torch.from_numpy(np.asarray(self._array[np.asarray(places, int)], np.float32))
        return found.permute(0, 3, 1, 2)
