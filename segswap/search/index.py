"""The index of a folder of pictures: features and descriptors of windows, made once and kept.

It lies in a folder of its own, the store: ``index.json`` names the pictures with the size and time of their files, and
the two arrays, whose names carry a key of what they hold. ``index.json`` is written last, so that a reader never sees
a half; arrays that it no longer names are deleted after.

When pictures are added, changed or removed, those that stayed as they are (name, bytes, time) are copied from the
arrays before; only the others are read and go through the backbone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segswap.errors import InputError
from segswap.files import NOT_ARRAYS, claim, content_key, make_folder, read_json, sha256, whole_file, write_json
from segswap.images import UnreadableImage, list_images, read_image
from segswap.matching.features import FeatureStore, backbone_key, extract_features
from segswap.models.segswap import SegSwap
from segswap.progress import progress
from segswap.search.prefilter import WINDOWS, window_descriptors

FORMAT = "segswap-index-1"

_IMAGES_AT_ONCE = 32

Stamps = dict[str, tuple[int, int]]
"""Bytes and modification time (ns) of files by name; -1 where a file cannot be looked at."""


@dataclasses.dataclass(frozen=True)
class Index:
    """Pictures of one folder that can be searched; a picture's number is its place here.

    Attributes:
        folder: that holds them.
        side: in pixels that they are squashed to.
        names: of the readable pictures, in order.
        sizes: their (width, height) in pixels, int (n, 2).
        file_bytes: size of their files, int (n,).
        left_out: why other pictures of the folder are not among them, by name.
        features: in the same order.
        descriptors: of their windows, float16 (n, W, C), memory-mapped.
    """

    folder: Path
    side: int
    names: tuple[str, ...]
    sizes: np.ndarray
    file_bytes: np.ndarray
    left_out: dict[str, str]
    features: FeatureStore
    descriptors: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def read(self, number: int) -> np.ndarray:
        """Return a picture, RGB uint8 (H, W, 3).

        Raises:
            UnreadableImage: when its file has gone since.
        """
        return read_image(self.folder / self.names[number])

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


def default_store(folder: Path, backbone: str, side: int) -> Path:
    """Return where the index of a folder is kept unless another place is asked for: in the user's cache.

    Args:
        folder: of the pictures.
        backbone: key of the weights. side: in pixels. Each of them gives another place.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = folder.resolve()
    return cache / "segswap" / f"{path.name[:60]}-{content_key([str(path), backbone, side])}"


def open_index(
    folder: str | os.PathLike,
    model: SegSwap,
    side: int,
    store: str | os.PathLike | None = None,
    subfolders: bool = False,
) -> Index:
    """Open the index of a folder; make it, or what has changed of it, first.

    Args:
        folder: of pictures.
        model: whose backbone gives the features, on the device that is to be used.
        side: in pixels that pictures are squashed to, a multiple of 16.
        store: folder of the index; None: ``default_store``.
        subfolders: whether pictures in subfolders count; their names are paths below the folder.

    Raises:
        InputError: when the folder is missing, holds no picture or none that opens; when the store belongs to another
            folder, backbone or side; when the disk has too little room; when another process is making this index.
    """
    folder, backbone = Path(folder), backbone_key(model.backbone)
    store = default_store(folder, backbone, side) if store is None else Path(store)
    about = {"format": FORMAT, "folder": str(folder.resolve()), "backbone": backbone, "side": side, "windows": WINDOWS}
    make_folder(store, "--store")
    found = _open(store, folder, model, about)
    if found is None or _changed(found, _stamps(folder, subfolders)):
        # Another process may have finished since it was looked at.
        with contextlib.closing(claim(store / "index.lock", f"the index in {store}")):
            found, stamps = _open(store, folder, model, about), _stamps(folder, subfolders)
            if found is None or _changed(found, stamps):
                _build(store, folder, model, about, stamps, found)
                found = _open(store, folder, model, about)
                assert found is not None
    index = found.index
    size = sum(path.stat().st_size for path in found.files)
    print(f"index of {folder}: {len(index)} pictures, {size / 1e6:.1f} MB in {store}", flush=True)
    if index.left_out:
        print(f"{len(index.left_out)} left out:", flush=True)
        for name, why in index.left_out.items():
            print(f"  {name}: {why}", flush=True)
    return index


@dataclasses.dataclass(frozen=True)
class _Kept:
    """An index as it lies in a store, with the stamps it was made from and its files."""

    index: Index
    stamps: Stamps
    files: tuple[Path, Path]


def _stamps(folder: Path, subfolders: bool) -> Stamps:
    stamps = {}
    for path in list_images(folder, subfolders):
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


def _open(store: Path, folder: Path, model: SegSwap, about: dict[str, Any]) -> _Kept | None:
    """Open what lies in a store; None where nothing does, or something damaged, which is said."""
    path = store / "index.json"
    if not path.exists():
        return None
    try:
        note = read_json(path)
        for name, value in about.items():
            if content_key(note[name]) != content_key(value):
                raise _OtherIndex(
                    f"{store}: holds an index with {name} {note[name]!r}, this one has {value!r}; choose another "
                    "--store, or delete that folder"
                )
        images = note["images"]
        names = tuple(image["name"] for image in images)
        files = store / note["features"], store / note["descriptors"]
        index = Index(
            folder=folder,
            side=about["side"],
            names=names,
            sizes=np.array([image["size"] for image in images], int).reshape(-1, 2),
            file_bytes=np.array([image["file"][0] for image in images], int),
            left_out={image["name"]: image["why"] for image in note["left_out"]},
            features=FeatureStore(files[0], model.backbone, names),
            descriptors=np.load(files[1], mmap_mode="r", allow_pickle=False),
        )
        if index.descriptors.shape != (len(names), WINDOWS**2, index.features.channels):
            raise InputError(f"{files[1]}: descriptors of shape {index.descriptors.shape}")
        stamps = {image["name"]: tuple(image["file"]) for image in [*images, *note["left_out"]]}
    except _OtherIndex:
        raise
    except (InputError, KeyError, TypeError, *NOT_ARRAYS) as error:
        print(f"{store}: the index there cannot be used ({error}); it is made again", flush=True)
        return None
    return _Kept(index, stamps, files)


class _OtherIndex(InputError):
    """A whole index, but of something else: not to be written over."""


def _build(
    store: Path, folder: Path, model: SegSwap, about: dict[str, Any], stamps: Stamps, before: _Kept | None
) -> None:
    """Write the index of a folder's pictures as they are listed; copy what ``before`` knows of them."""
    known = {}
    if before is not None:
        same = (name for name in before.index.names if stamps.get(name) == before.stamps[name])
        known = {name: before.index.features.place(name) for name in same}
        print(f"{folder}: {len(known)} of {len(stamps)} pictures are known, the others are read", flush=True)
    sizes: dict[str, tuple[int, int]] = {}

    def loader(name: str) -> Callable[[], np.ndarray]:
        def load() -> np.ndarray:
            image = read_image(folder / name)
            sizes[name] = image.shape[1::-1]
            return image

        return load

    # What is known is part of the key: a picture that did not open, and now does, has the same stamp.
    key = content_key([about, sorted(stamps.items()), sorted(known)])
    features, descriptors = store / f"features-{key}.npy", store / f"descriptors-{key}.npy"
    left_out = extract_features(
        list(stamps),
        [loader(name) for name in stamps],
        model.backbone,
        (about["side"], about["side"]),
        features,
        known={name: before.index.features.stored(place) for name, place in known.items()},
        skip_unreadable=True,
    )
    names = [name for name in stamps if name not in left_out]
    for name in names:
        if name in known:
            sizes[name] = tuple(before.index.sizes[known[name]].tolist())
        elif name not in sizes:
            loader(name)()  # its features were made by an attempt that was cut off
    opened = FeatureStore(features, model.backbone, names)
    _write_descriptors(descriptors, opened, before, known)
    note = {
        **about,
        "features": features.name,
        "descriptors": descriptors.name,
        "images": [{"name": name, "file": stamps[name], "size": sizes[name]} for name in names],
        "left_out": [{"name": name, "file": stamps[name], "why": why} for name, why in left_out.items()],
    }
    write_json(store / "index.json", note)
    for path in store.iterdir():
        if path.name.removeprefix(".").startswith(("features-", "descriptors-")) and key not in path.name:
            path.unlink(missing_ok=True)


def _write_descriptors(path: Path, features: FeatureStore, before: _Kept | None, known: dict[str, int]) -> None:
    """Write the descriptors of all pictures; those of known ones are copied."""
    shape = (len(features), WINDOWS**2, features.channels)
    with whole_file(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        for start in progress(range(0, shape[0], _IMAGES_AT_ONCE), "descriptors (batches)"):
            places = range(start, min(start + _IMAGES_AT_ONCE, shape[0]))
            new = [place for place in places if features.names[place] not in known]
            if new:
                array[new] = window_descriptors(features.read(new), WINDOWS, WINDOWS).half().numpy()
            for place in places:
                if features.names[place] in known:
                    array[place] = before.index.descriptors[known[features.names[place]]]
        array.flush()
        del array
