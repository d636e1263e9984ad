"""Lists of what stages read of a folder: they depend on its list, and not on the time of the folder.

A folder's own time changes with any file that a desktop puts there, and does not where a picture is replaced under its
name. A list has the names of the files that are read, with sizes and times.
"""

from __future__ import annotations

import os
from pathlib import Path

from segswap.errors import InputError
from segswap.files import content_key, write_json
from segswap.listing import find_images, is_hidden

KINDS = ("pictures", "labels")
"""What is read of a folder: pictures, or YOLO's label files; those of subfolders too."""

Entry = tuple[str, int, int]
"""A file's path below the folder, its size in bytes, and when it was last changed, in ns."""


def list_folder(folder: str | os.PathLike, kind: str) -> list[Entry]:
    """Return the files of one of ``KINDS`` in a folder, in order; none where there is none: the stage says so."""
    entries = []
    before = len(os.fsencode(Path(folder))) + 1
    for path in _paths(Path(folder), kind):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # a link that leads nowhere, or a file that has just gone
        # Names need not be UTF-8, and a list is.
        name = os.fsencode(path)[before:].decode(errors="backslashreplace")
        entries.append((name, status.st_size, status.st_mtime_ns))
    return entries


def _paths(folder: Path, kind: str) -> list[Path]:
    if kind == "labels":
        return sorted(path for path in folder.rglob("*.txt") if not is_hidden(path.name))
    try:
        return find_images(folder, subfolders=True).paths
    except InputError:
        return []


def folder_state(folder: str | os.PathLike, kind: str) -> str:
    """Return what changes exactly when a folder's list does: how many files there are, and a key of the list."""
    entries = list_folder(folder, kind)
    return f"{len(entries)} {kind}, {content_key(entries)}"


def write_list(folder: str | os.PathLike, kind: str, path: str | os.PathLike) -> None:
    """Write the list of a folder as JSON: of each file the name, the size in bytes, and the time in ns."""
    write_json(path, list_folder(folder, kind))
