"""The pictures of a folder: which files are pictures, and what is left out.

A file is a picture by its suffix, or by its first bytes; nothing of it is decoded here.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

from segswap.errors import InputError
from segswap.names import is_utf8

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif",
)  # fmt: skip
"""Of files that are listed as pictures unopened; files of other suffixes are looked into."""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_HEIC_SUFFIXES = (".heic", ".heif", ".hif")

_BEGINNING = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|II\*\0|MM\0\*|BM.{4}\0{4}|P[1-6]\s+[#\d]"
    rb"|\0\0\0\x0cjP {2}\r\n\x87\n|.{4}ftyp(?:.{4})*?avi[fs]",
    re.DOTALL,
)
"""How files begin that OpenCV reads: JPEG, PNG, GIF, WebP, TIFF, BMP, PNM, JPEG 2000, AVIF."""

_BEGINNING_BYTES = 64

_RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw",
    ".orf", ".pef", ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
"""Of raw photos. Many begin as TIFF does; a decoder of TIFF gives the small preview in them."""

_UNFINISHED = ("~", ".bak", ".crdownload", ".download", ".orig", ".part", ".partial", ".swp", ".tmp")
"""Ends of the names of backups, and of files that a program is writing."""

_SYSTEM_NAMES = frozenset(
    {
        "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle", "@sharesnap", "@tmp",
        "__macosx", "desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "icon\r", "lost+found", "network trash folder",
        "recycler", "system volume information", "temporary items", "thumbs.db",
    }
)  # fmt: skip
"""Of files and folders that systems and file servers leave among pictures, in small letters."""

_NAMED = 10
"""Files that are named of those left out for one reason."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """The pictures of a folder.

    Attributes:
        paths: the picture files, sorted.
        left_out: why other files, and folders that are not looked into, are not among them; by name below the folder.
    """

    paths: list[Path]
    left_out: dict[str, str]

    def __str__(self) -> str:
        """Return what is left out in a line: how many for each reason, and the first names."""
        names: dict[str, list[str]] = {}
        for name, why in sorted(self.left_out.items()):
            names.setdefault(why, []).append(name if name.isprintable() else ascii(name))
        return "; ".join(
            f"{len(some)} {why} ({', '.join(some[:_NAMED])}{', ...' * (len(some) > _NAMED)})"
            for why, some in names.items()
        )


def list_images(folder: str | os.PathLike, subfolders: bool = False, utf8_names: bool = False) -> list[Path]:
    """Return the pictures of ``find_images``; a line on standard error says what is left out.

    Raises:
        InputError: as ``find_images``, and when the folder holds no picture.
    """
    found = find_images(folder, subfolders, utf8_names)
    if not found.paths:
        others = f"; left out: {found}" if found.left_out else ""
        raise InputError(f"{folder}: holds no picture ({', '.join(IMAGE_SUFFIXES)}); put at least one there{others}")
    if found.left_out:
        print(f"{folder}: left out: {found}", file=sys.stderr, flush=True)
    return found.paths


def find_images(folder: str | os.PathLike, subfolders: bool = False, utf8_names: bool = False) -> Listing:
    """Return the pictures of a folder, and what is left out.

    A regular file is a picture by its suffix, or else by its first bytes. Hidden files, and what systems leave in
    folders, are left out. Links are followed. A file or folder that links lead to as well is listed once, under its own
    name where it lies in the folder.

    Args:
        folder: of the pictures.
        subfolders: whether pictures in subfolders count.
        utf8_names: whether pictures are left out whose names are not UTF-8: for names that go into tables as they are.

    Raises:
        InputError: when the folder is missing or cannot be read.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; expected a folder of pictures")
    pictures: dict[str, str] = {}
    left_out: dict[str, str] = {}
    looked_into: set[str] = set()
    folders: deque[str] = deque([""])
    links: list[tuple[str, os.DirEntry[str]]] = []
    real_folder = lru_cache(maxsize=None)(os.path.realpath)

    def take(name: str, entry: os.DirEntry[str], real: str) -> None:
        """Put an entry, of a ``name`` below the folder and a ``real`` path without links, where it belongs."""
        if entry.is_dir() and subfolders:
            folders.append(name)
        elif entry.is_dir():
            if name.lower().endswith(IMAGE_SUFFIXES):
                left_out[name] = "called like a picture, but a folder"
        elif real in pictures:
            left_out[name] = "linked to a picture that is listed"
        elif why := _no_picture(real, name) if entry.is_file() else "no file":
            left_out[name] = why
        elif utf8_names and not is_utf8(name):
            left_out[name] = "of a name that is not UTF-8: rename"
        else:
            pictures[real] = name

    while folders or links:
        if not folders:
            # Only now: what lies in the folder itself keeps its own name.
            for name, entry in sorted(links, key=itemgetter(0)):
                try:
                    take(name, entry, _target(entry.path, real_folder))
                except OSError as error:
                    left_out[name] = f"not readable ({error.strerror})"
            links.clear()
            continue
        inside = folders.popleft()
        here = real_folder(os.path.join(folder, inside))
        if here in looked_into:
            continue
        looked_into.add(here)
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            why = f"not readable ({error.strerror})"
            if not inside:
                raise InputError(f"{folder}: {why}; expected a folder of pictures") from None
            left_out[inside] = why
            continue
        for entry in entries:
            name = os.path.join(inside, entry.name)
            if is_hidden(entry.name):
                left_out[name] = "hidden, or left by a system"
            elif entry.is_symlink():
                links.append((name, entry))
            else:
                take(name, entry, entry.path)
    names = sorted(pictures.values(), key=lambda name: name.split(os.sep))
    return Listing([Path(folder, name) for name in names], left_out)


def _target(link: str, real_folder: Callable[[str], str]) -> str:
    """Return the path without links that a link leads to; ``real_folder`` remembers those of folders."""
    above, name = os.path.split(os.path.join(os.path.dirname(link), os.readlink(link)))
    path = os.path.join(real_folder(above), name)
    return os.path.realpath(link) if name in ("", ".", "..") or os.path.islink(path) else path


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or of those that systems leave among pictures."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _no_picture(path: str, name: str) -> str | None:
    """Return why a regular file is no picture that can be read; None where it is one.

    Args:
        path: of the file. name: that it is listed under, which may be a link's.
    """
    small = name.lower()
    if small.endswith(IMAGE_SUFFIXES):
        return None
    if small.endswith(_UNFINISHED):
        return "unfinished, or a backup"
    if small.endswith(_RAW_SUFFIXES):
        return "raw, which is not read: save as JPEG or PNG"
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read(_BEGINNING_BYTES)
    except OSError as error:
        return f"not readable ({error.strerror})"
    if _BEGINNING.match(data):
        return None
    if is_heic(data) or small.endswith(_HEIC_SUFFIXES):
        return "HEIC, which is not read: save as JPEG or PNG"
    return "no picture"


def is_heic(data: bytes) -> bool:
    """Return whether a file that begins so is a HEIC picture, which no decoder here reads."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS
