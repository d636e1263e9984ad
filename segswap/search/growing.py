"""A file of cells that grows by a picture at a time; an interrupted growth goes on where it was.

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
from segswap.search.windows import SIDES, count

_SAVE_SECONDS = 30.0
"""Time between two notes."""

_CELLS = sum((side / 16) ** 2 for side in SIDES)
"""Cells of a picture that has all sizes, about."""


@dataclasses.dataclass(frozen=True)
class Grown:
    """What has grown: the file in place, and of each picture its ``size`` and its ``cells``, rows and columns."""

    cells: Path
    images: dict[str, dict[str, Any]]


class Growing:
    """The file while it grows. As a context it keeps what is done, for the next attempt, when an error ends it.

    Attributes:
        images: size and grids of the pictures that are in, by name.
        left_out: why others are not, by name.
    """

    def __init__(self, store: Path, key: str, pictures: int, length: int) -> None:
        """Start, or go on.

        Args:
            store: folder of the index; the caller holds its lock.
            key: of what the file will hold.
            pictures: that there may be. length: numbers of a cell.

        Raises:
            InputError: when the disk has too little room.
        """
        self._store, self._key, self._length = store, key, length
        self._path = store / ".cells.unfinished"
        self._note = store / ".note.unfinished.json"
        self.images: dict[str, dict[str, Any]] = {}
        self.left_out: dict[str, str] = {}
        self._recall()
        needed = int(_CELLS * length * (pictures - self.done))
        print(f"{store}: {pictures} pictures, up to {needed / 1e6:.1f} MB of cells", flush=True)
        if self.done:
            print(f"{store}: going on after {self.done} pictures", flush=True)
        if needed > (free := shutil.disk_usage(store).free):
            raise InputError(
                f"{store}: needs {needed / 1e6:,.0f} MB, the disk has {free / 1e6:,.0f} MB free; make room, or choose "
                "another --store"
            )
        self._file: IO[bytes] = open(self._path, "ab")  # noqa: SIM115
        self._saved_at = time.monotonic()

    @property
    def done(self) -> int:
        """The number of pictures that have been looked at."""
        return len(self.images) + len(self.left_out)

    def _recall(self) -> None:
        """Take over what an earlier attempt at the very same has noted; else begin with an empty file."""
        note: dict[str, Any] = {}
        if self._note.is_file():
            with contextlib.suppress(InputError):
                note = read_json(self._note)
        if (
            note.get("key") == self._key
            and self._path.is_file()
            and self._path.stat().st_size >= self._bytes(note["images"])
        ):
            self.images, self.left_out = note["images"], note["left_out"]
        with open(self._path, "ab"):
            os.truncate(self._path, self._bytes(self.images))

    def _bytes(self, images: dict[str, dict[str, Any]]) -> int:
        """Return how many bytes the file has that holds some pictures."""
        return sum(count(entry["cells"]) for entry in images.values()) * self._length

    def add(self, name: str, size: tuple[int, int], cells: Sequence[np.ndarray]) -> None:
        """Write the cells of the next picture, int8 (h, w, K) at each of its sizes."""
        for level in cells:
            self._file.write(np.ascontiguousarray(level).data)
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
        self._file.flush()
        write_json(self._note, {"key": self._key, "images": self.images, "left_out": self.left_out}, orphan=True)
        self._saved_at = time.monotonic()

    def finish(self) -> Grown:
        """Put the file in place."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        cells = self._store / f"cells-{self._key}.i8"
        os.replace(self._path, cells)
        self._note.unlink(missing_ok=True)
        return Grown(cells, self.images)

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.images:
            self._save()
        self._file.close()
        if kind is not None and not self.images:
            for path in (self._path, self._note):
                path.unlink(missing_ok=True)
