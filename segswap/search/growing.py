"""Files of cells that grow by a picture at a time; an interrupted growth goes on where it was.

What has grown lies in the store under hidden names, with a note of the pictures that it holds. The note is written
after the cells, so it never promises more than there is; what lies behind its end is cut off by the next attempt.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from segswap.errors import InputError
from segswap.files import read_json, write_json
from segswap.search.cells import Grid, count, halved_grid
from segswap.search.windows import SIDES

_SAVE_SECONDS = 30.0
"""Time between two notes."""

_CELLS = sum((side / 16) ** 2 for side in SIDES)
"""Cells of a picture that has all sizes, about; a quarter more are coarse."""


@dataclasses.dataclass(frozen=True)
class Grown:
    """What has grown: both files in place, and of each picture its ``size`` and its ``cells``, rows and columns."""

    cells: Path
    coarse: Path
    images: dict[str, dict[str, Any]]


class Growing:
    """The files while they grow. As a context it keeps what is done, for the next attempt, when an error ends it.

    Attributes:
        images: size and grids of the pictures that are in, by name.
        left_out: why others are not, by name.
    """

    def __init__(self, store: Path, key: str, pictures: int, length: int) -> None:
        """Start, or go on.

        Args:
            store: folder of the index; the caller holds its lock.
            key: of what the files will hold.
            pictures: that there may be. length: numbers of a cell.

        Raises:
            InputError: when the disk has too little room.
        """
        self._store, self._key, self._length = store, key, length
        self._paths = tuple(store / f".{part}.unfinished" for part in ("cells", "coarse"))
        self._note = store / ".note.unfinished.json"
        self.images: dict[str, dict[str, Any]] = {}
        self.left_out: dict[str, str] = {}
        self._recall()
        needed = int(_CELLS * 1.25 * length * (pictures - self.done))
        print(f"{store}: {pictures} pictures, up to {needed / 1e6:.1f} MB of cells", flush=True)
        if self.done:
            print(f"{store}: going on after {self.done} pictures", flush=True)
        if needed > (free := shutil.disk_usage(store).free):
            raise InputError(
                f"{store}: needs {needed / 1e6:,.0f} MB, the disk has {free / 1e6:,.0f} MB free; make room, or choose "
                "another --store"
            )
        self._files: tuple[IO[bytes], ...] = tuple(open(path, "ab") for path in self._paths)  # noqa: SIM115
        self._saved_at = time.monotonic()

    @property
    def done(self) -> int:
        """The number of pictures that have been looked at."""
        return len(self.images) + len(self.left_out)

    def _recall(self) -> None:
        """Take over what an earlier attempt at the very same has noted; else begin with empty files."""
        note: dict[str, Any] = {}
        if self._note.is_file():
            with contextlib.suppress(InputError):
                note = read_json(self._note)
        if note.get("key") == self._key and all(
            path.is_file() and path.stat().st_size >= length
            for path, length in zip(self._paths, self._lengths(note["images"]), strict=True)
        ):
            self.images, self.left_out = note["images"], note["left_out"]
        lengths = self._lengths(self.images)
        for path, length in zip(self._paths, lengths, strict=True):
            with open(path, "ab"):
                os.truncate(path, length)

    def _lengths(self, images: dict[str, dict[str, Any]]) -> tuple[int, int]:
        """Return how many bytes both files have that hold some pictures."""
        counts = [_counts(entry) for entry in images.values()]
        return tuple(sum(count[part] for count in counts) * self._length for part in range(2))

    def add(self, name: str, size: tuple[int, int], cells: Sequence[np.ndarray], coarse: Sequence[np.ndarray]) -> None:
        """Write the cells of the next picture, int8 (h, w, K) at each of its sizes, and the coarse ones."""
        for file, levels in zip(self._files, (cells, coarse), strict=True):
            for level in levels:
                file.write(np.ascontiguousarray(level).data)
        self.images[name] = {"size": list(size), "cells": [list(level.shape[:2]) for level in cells]}
        self._save_now_and_then()

    def leave_out(self, name: str, why: str) -> None:
        """Note that the next picture has no cells."""
        self.left_out[name] = why
        self._save_now_and_then()

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        for file in self._files:
            file.flush()
        write_json(self._note, {"key": self._key, "images": self.images, "left_out": self.left_out}, orphan=True)
        self._saved_at = time.monotonic()

    def give_up(self) -> None:
        """Forget what is done: the next attempt is to look again."""
        self.images, self.left_out = {}, {}

    def finish(self) -> Grown:
        """Put the files in place."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        cells, coarse = (self._store / f"{part}-{self._key}.i8" for part in ("cells", "coarse"))
        for path, target in zip(self._paths, (cells, coarse), strict=True):
            os.replace(path, target)
        self._note.unlink(missing_ok=True)
        return Grown(cells, coarse, self.images)

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.images:
            self._save()
        for file in self._files:
            file.close()
        if kind is not None and not self.images:
            for path in (*self._paths, self._note):
                path.unlink(missing_ok=True)


def _counts(entry: dict[str, Any]) -> tuple[int, int]:
    """Return how many cells, and how many coarse ones, a picture has."""
    grids: list[Grid] = [tuple(grid) for grid in entry["cells"]]
    return count(grids), count([halved_grid(grid) for grid in grids])
