"""The index of a folder of pictures: the cells of every picture at several sizes, made once and kept.

The index lies in a folder of its own, the store. ``index.json`` names the pictures with the size and time of their
files. ``cells`` holds the cells of all pictures at all their sizes, one byte a number; ``projection`` says how features
become these numbers. Both names carry a key of what the files hold. ``index.json`` is written last, so a reader never
sees a half; files that ``index.json`` no longer names are deleted after.

When pictures are added, changed or removed, the index copies what it knows of those that stayed as they are (name,
bytes, time). Only the others are read and go through the backbone. The projection stays: a fit on one picture serves
others nearly as well (docs/search.md).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segswap.errors import InputError
from segswap.files import NOT_ARRAYS, claim, content_key, make_folder, read_json, sha256, write_json
from segswap.images import UnreadableImage, read_image, resize
from segswap.listing import list_images
from segswap.matching.features import backbone_key
from segswap.models.segswap import SegSwap
from segswap.progress import progress
from segswap.randomness import generator
from segswap.search.cells import as_vectors, picture_cells, window_features
from segswap.search.growing import Growing
from segswap.search.projection import Projection
from segswap.search.windows import SIDES, Grid, Levels, count, fitted_size

FORMAT = "segswap-index-2"

FIT_PICTURES = 64
"""Pictures, spread over a collection, that the projection is fitted to."""

_FIT_SIDE = SIDES[3]
"""The size at which the fit looks at them: some 600 cells each."""

Stamps = dict[str, tuple[int, int]]
"""Bytes and modification time (ns) of files by name; -1 where a file cannot be looked at."""


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """Pictures of one folder that can be searched; a picture's number is its place here.

    Attributes:
        folder: that holds them.
        names: of the readable pictures, in order.
        sizes: their (width, height) in pixels, int (n, 2).
        file_bytes: size of their files, int (n,).
        left_out: why other pictures of the folder are not among them, by name.
        projection: of features to cells.
        grids: rows and columns of cells of each picture at its sizes, smallest first.
        cells: of all pictures, one after the other, int8 (N, K), memory-mapped.
    """

    folder: Path
    names: tuple[str, ...]
    sizes: np.ndarray
    file_bytes: np.ndarray
    left_out: dict[str, str]
    projection: Projection
    grids: tuple[tuple[Grid, ...], ...]
    cells: np.ndarray
    _starts: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def bytes(self) -> int:
        """What the cells of all pictures take on the disk, and in memory once a search has read them."""
        return self.cells.nbytes

    def read(self, number: int) -> np.ndarray:
        """Return a picture, RGB uint8 (H, W, 3).

        Raises:
            UnreadableImage: when its file has gone since.
        """
        return read_image(self.folder / self.names[number])

    def size(self, number: int) -> tuple[int, int]:
        """Return the (width, height) of a picture in pixels."""
        return tuple(self.sizes[number].tolist())

    def levels(self, number: int, most: int | None = None) -> Levels:
        """Return the cells of a picture at its sizes, smallest first; of many, the ``most`` first."""
        grids, start = self.grids[number][:most], self._starts[number]
        return Levels(as_vectors(self.cells[start : start + count(grids)]), grids)

    def stored(self, number: int) -> list[np.ndarray]:
        """Return the cells of a picture as they lie on the disk, int8 (h, w, K) at each size."""
        grids = self.grids[number]
        ends = self._starts[number] + np.cumsum([rows * columns for rows, columns in grids])
        return [
            self.cells[end - rows * columns : end].reshape(rows, columns, -1)
            for end, (rows, columns) in zip(ends, grids, strict=True)
        ]

    def copies(self, file: tuple[int, str] | None) -> list[int]:
        """Return the numbers of the pictures whose files have this size and SHA-256."""
        if file is None:
            return []
        alike = np.flatnonzero(self.file_bytes == file[0]).tolist()
        found = []
        for number in alike:
            with contextlib.suppress(OSError):
                if sha256(self.folder / self.names[number]) == file[1]:
                    found.append(number)
        return found


def user_cache() -> Path:
    """Return the folder of this user's indexes.

    Raises:
        InputError: when the user has no home folder, as in containers that give a user no name.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError:
        raise InputError(
            f"user {os.getuid()} has no home folder to keep an index in; name a folder for it with --store"
        ) from None
    return cache / "segswap"


def store_in(cache: Path, folder: Path, backbone: str, projection: str) -> Path:
    """Return the place of a folder's index among others.

    Args:
        cache: folder of all of them.
        folder: of the pictures.
        backbone: key of the weights.
        projection: key of one that is given; empty for the folder's own. Each of them gives another place.
    """
    path = folder.resolve()
    # A file system takes 255 bytes, which may be a quarter as many letters.
    name = os.fsencode(path.name[:60])[:200].decode("utf-8", "ignore")
    return cache / f"{name}-{content_key([FORMAT, str(path), backbone, projection])}"


def open_index(
    folder: str | os.PathLike,
    model: SegSwap,
    store: str | os.PathLike | None = None,
    subfolders: bool = False,
    projection: Projection | None = None,
    cache: Path | None = None,
) -> Index:
    """Open the index of a folder; make it, or what has changed of it, first.

    Args:
        folder: of pictures.
        model: whose backbone gives the features, on the device that is to be used.
        store: folder of the index; None: its place in ``cache``.
        subfolders: whether pictures in subfolders count; their names are paths below the folder.
        projection: that of another index, with which this one is to be compared; None: one fitted to the folder.
        cache: folder of many indexes; None: ``user_cache``.

    Raises:
        InputError: when the folder is missing, holds no picture or none that opens; when there is no place for the
            index; when the store belongs to another folder, backbone or projection; when the disk has too little room;
            when another process is making this index.
    """
    folder, backbone = Path(folder), backbone_key(model.backbone)
    given = projection.key if projection else ""
    store = store_in(cache or user_cache(), folder, backbone, given) if store is None else Path(store)
    about = {
        "format": FORMAT,
        "folder": str(folder.resolve()),
        "backbone": backbone,
        "given_projection": given,
        "sides": list(SIDES),
    }
    paths = list_images(folder, subfolders)
    make_folder(store, "--store")
    found = _open(store, folder, about)
    if found is None or _changed(found, _stamps(folder, paths)):
        # Another process may have finished since the first look.
        with contextlib.closing(claim(store / "index.lock", f"the index in {store}")):
            found, stamps = _open(store, folder, about), _stamps(folder, paths)
            if found is None or _changed(found, stamps):
                _build(store, folder, model, about, stamps, found, projection)
                found = _open(store, folder, about)
                assert found is not None
    index = found.index
    print(f"index of {folder}: {len(index)} pictures, {index.bytes / 1e6:.1f} MB in {store}", flush=True)
    if index.left_out:
        print(f"{len(index.left_out)} left out:", flush=True)
        for name, why in index.left_out.items():
            print(f"  {name}: {why}", flush=True)
    return index


@dataclasses.dataclass(frozen=True)
class _Kept:
    """An index as it lies in a store, with the stamps it was made from."""

    index: Index
    stamps: Stamps


def _stamps(folder: Path, paths: Sequence[Path]) -> Stamps:
    stamps = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            status = path.stat()
            stamps[name] = (status.st_size, status.st_mtime_ns)
        except OSError:
            stamps[name] = (-1, -1)  # gone since it was listed: reading it says so
    return stamps


def _changed(kept: _Kept, stamps: Stamps) -> bool:
    """Return whether the pictures of a folder are no longer those of an index; those left out may open by now."""
    return kept.stamps != stamps or any(_opens(kept.index.folder / name) for name in kept.index.left_out)


def _opens(path: Path) -> bool:
    try:
        read_image(path)
    except UnreadableImage:
        return False
    return True


def _open(store: Path, folder: Path, about: dict[str, Any]) -> _Kept | None:
    """Open what lies in a store; None where nothing does, or something damaged, which is said."""
    path = store / "index.json"
    if not path.exists():
        return None
    try:
        note = read_json(path)
        for name, value in about.items():
            if content_key(note.get(name)) != content_key(value):
                raise _OtherIndex(
                    f"{store}: holds an index with {name} {note.get(name)!r}, this one has {value!r}; choose another "
                    "--store, or delete that folder"
                )
        images = note["images"]
        grids = tuple(tuple((rows, columns) for rows, columns in image["cells"]) for image in images)
        projection = Projection.read(store / note["projection"])
        index = Index(
            folder=folder,
            names=tuple(image["name"] for image in images),
            sizes=np.array([image["size"] for image in images], int).reshape(-1, 2),
            file_bytes=np.array([image["file"][0] for image in images], int),
            left_out={image["name"]: image["why"] for image in note["left_out"]},
            projection=projection,
            grids=grids,
            cells=_mapped(store / note["cells"], [count(g) for g in grids], projection.length),
            _starts=np.cumsum([0, *(count(g) for g in grids)]),
        )
        stamps = {image["name"]: tuple(image["file"]) for image in [*images, *note["left_out"]]}
    except _OtherIndex:
        raise
    except (InputError, KeyError, TypeError, AttributeError, *NOT_ARRAYS) as error:
        print(f"{store}: the index there cannot be used ({error}); it is made again", flush=True)
        return None
    return _Kept(index, stamps)


def _mapped(path: Path, counts: list[int], length: int) -> np.ndarray:
    """Map a file of cells, int8 (sum of counts, length)."""
    expected, found = sum(counts) * length, path.stat().st_size
    if found != expected:
        raise InputError(f"{path}: {found:,} bytes, expected {expected:,}")
    return np.memmap(path, np.int8, "r", shape=(sum(counts), length))


class _OtherIndex(InputError):
    """A whole index, but of something else: not to be written over."""


def _build(
    store: Path,
    folder: Path,
    model: SegSwap,
    about: dict[str, Any],
    stamps: Stamps,
    before: _Kept | None,
    projection: Projection | None,
) -> None:
    """Write the index of a folder's pictures as they are listed; copy what ``before`` knows of them."""
    known: dict[str, int] = {}
    if before is not None:
        projection = before.index.projection
        numbers = {name: number for number, name in enumerate(before.index.names)}
        known = {name: n for name, n in numbers.items() if stamps.get(name) == before.stamps[name]}
        print(f"{folder}: {len(known)} of {len(stamps)} pictures are known, the others are read", flush=True)
    projection = projection or _fitted(store, folder, model, about, stamps)
    # Those that are known are part of the key: a picture that did not open, and now does, has the same stamp.
    key = content_key([about, projection.key, sorted(stamps.items()), sorted(known)])
    names = list(stamps)
    with Growing(store, key, len(names), projection.length) as growing:
        missing = names[growing.done :]
        for name in progress(missing, f"index of {folder.name} (pictures)", len(names), growing.done):
            if name in known:
                number = known[name]
                growing.add(name, before.index.size(number), before.index.stored(number))
                continue
            try:
                image = read_image(folder / name)
            except UnreadableImage as error:
                growing.leave_out(name, str(error))
                continue
            growing.add(name, image.shape[1::-1], picture_cells(model, projection, image))
        grown = growing.finish()
    files = {"projection": store / f"projection-{key}.npz", "cells": grown.cells}
    projection.save(files["projection"])
    note = {
        **about,
        **{part: path.name for part, path in files.items()},
        "images": [{"name": name, "file": stamps[name], **entry} for name, entry in grown.images.items()],
        "left_out": [{"name": name, "file": stamps[name], "why": why} for name, why in growing.left_out.items()],
    }
    write_json(store / "index.json", note)
    for path in store.iterdir():
        if path.name.removeprefix(".").startswith(tuple(f"{part}-" for part in files)) and key not in path.name:
            path.unlink(missing_ok=True)


def _fitted(store: Path, folder: Path, model: SegSwap, about: dict[str, Any], stamps: Stamps) -> Projection:
    """Return the projection of a folder, fitted to some of its pictures; an interrupted attempt's is taken over.

    Raises:
        InputError: when no picture opens.
    """
    kept = store / f".projection-{content_key([about, sorted(stamps.items())])}.npz"
    if kept.exists():
        with contextlib.suppress(InputError):
            return Projection.read(kept)
    cells, why = [], ""
    order = generator(0, "projection").permutation(len(stamps))
    for name in progress([list(stamps)[place] for place in order], f"projection of {folder.name} (pictures)"):
        try:
            image = read_image(folder / name)
        except UnreadableImage as error:
            why = why or str(error)
            continue
        image = resize(image, fitted_size(image.shape[1::-1], _FIT_SIDE))
        cells.append(window_features(model, image).flatten(0, 1))
        if len(cells) == FIT_PICTURES:
            break
    if not cells:
        raise InputError(f"{folder}: not one of {len(stamps)} pictures opens; first: {why}")
    projection = Projection.fit(torch.cat(cells))
    projection.save(kept)
    return projection
