"""Lists of names as people write them, and the files that they mean.

A list made on another system differs from the names on the disk in ways that nobody sees: a byte order mark, blanks
and carriage returns at the ends of lines, backslashes, another normal form of Unicode.
"""

from __future__ import annotations

import codecs
import collections
import os
import stat
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from segswap.errors import InputError
from segswap.files import read_array
from segswap.images import IMAGE_SUFFIXES

_INVISIBLE = ("Cc", "Cf", "Cn", "Co", "Mn", "Zl", "Zp", "Zs")
"""Categories of Unicode that look like nothing, or like a part of the letter before."""


def read_text(path: Path, expected: str = "a list as text") -> str:
    """Return the text of a list: UTF-8, or UTF-16 with a byte order mark, as editors of Windows write.

    Args:
        expected: what the file should be, for the message.

    Raises:
        InputError: when the file cannot be opened or is other text; the message names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); expected {expected}") from None
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text ({error.reason}); save the list as UTF-8") from None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list, without the blanks and line ends around them; empty ones stay.

    Raises:
        InputError: as of ``read_text``.
    """
    # Not splitlines: names may hold other characters that end lines in a text.
    return [line.strip() for line in read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def read_names(path: Path) -> tuple[str, ...]:
    """Read a list of image names, ``.npy`` or text with one name a line; a leading ``./`` is dropped.

    Raises:
        InputError: when the list cannot be read, is empty or names an image twice.
    """
    names = _names_of_array(path) if path.suffix == ".npy" else read_lines(path)
    names = [name.removeprefix("./").removeprefix(".\\") for name in names if name]
    if not names:
        raise InputError(f"{path}: an empty list of image names")
    return distinct(path, names)


def _names_of_array(path: Path) -> list[str]:
    array = read_array(path)
    if array.dtype.kind not in "US" or array.dtype.itemsize == 0:
        raise InputError(f"{path}: an array of {array.dtype}; expected names, or name a text with one name a line")
    # Decoded here: numpy makes text of any four bytes, and such text ends programs in strange ways.
    coding = "utf-8" if array.dtype.kind == "S" else "utf-32-le"
    data, size = array.astype(array.dtype.newbyteorder("<")).tobytes(), array.dtype.itemsize
    try:
        return [data[at : at + size].decode(coding).rstrip("\0").strip() for at in range(0, len(data), size)]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: holds names that are no text ({error.reason}); save the list as UTF-8 text"
        ) from None


def distinct(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a list.

    Raises:
        InputError: when one of them is there twice.
    """
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise InputError(f"{path}: names {shown(twice)} more than once; the names of a list must be distinct")
    return tuple(names)


def shown(name: str) -> str:
    """Return a name for a message, in quotes."""
    return f"{name!r}{unseen(name)}"


def unseen(name: str) -> str:
    """Return for a message, after a name, what cannot be seen in it; nothing where all of it can be."""
    hidden = any(unicodedata.category(letter) in _INVISIBLE and letter != " " for letter in name)
    return f" (in ASCII {name!a})" if hidden else ""


def stem(name: str) -> str:
    """Return a name without the suffix of a picture, in one normal form, with slashes: equal for equal pictures."""
    name = _plain(name.replace("\\", "/").removeprefix("./"))
    start, dot, suffix = name.rpartition(".")
    return start if dot + suffix.lower() in IMAGE_SUFFIXES else name


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def is_file(path: Path) -> bool:
    """Return whether a path is a file's; a name that no file can have is none."""
    return stat.S_ISREG(_mode(path))


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0


class Pictures:
    """The pictures of a folder, found by the names of a list.

    A folder is listed once, and only where a name is not there as it is written.

    Args:
        folder: that the names are relative to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, Callable[[str], str]], dict[str, list[str]]] = {}

    def find(self, name: str) -> str | None:
        """Return the name on the disk of the file that a list names so; None where there is none.

        The file with the very name comes first. Else backslashes are slashes, and normal forms of Unicode and blanks at
        the ends do not count.

        Raises:
            InputError: when several files are equally near to the name.
        """
        if is_file(self._folder / name):
            return name
        folder, last = self._split(name)
        return None if folder is None else self._nearest(folder, last, _plain, is_file)

    def find_stem(self, name: str) -> str | None:
        """Return the name on the disk of the picture with the stem of a name and another suffix; else as ``find``."""
        folder, last = self._split(name)
        return None if folder is None else self._nearest(folder, last, stem, _is_picture)

    def _split(self, name: str) -> tuple[str | None, str]:
        """Return the inner folder on the disk, None where there is none, and the name in it."""
        *parts, last = name.replace("\\", "/").split("/")
        folder = ""
        for part in parts:
            if (inner := self._nearest(folder, part, _plain, _is_folder)) is None:
                return None, last
            folder = f"{inner}/"
        return folder, last

    def _nearest(
        self, folder: str, name: str, form: Callable[[str], str], wanted: Callable[[Path], bool]
    ) -> str | None:
        """Return the entry of an inner folder that has a name as it is written, else the one that has its form."""
        if name in (".", "..") or (name and wanted(self._folder / folder / name)):
            return folder + name
        if (folder, form) not in self._known:
            known = self._known[folder, form] = collections.defaultdict(list)
            for entry in _entries(self._folder / folder):
                known[form(entry)].append(entry)
        found = [each for each in self._known[folder, form].get(form(name), ()) if wanted(self._folder / folder / each)]
        if len(found) > 1:
            raise InputError(
                f"{self._folder / folder}: {shown(name)} is not there, {' and '.join(map(shown, sorted(found)))} are; "
                "write the name in the list as that of the picture which is meant"
            )
        return folder + found[0] if found else None


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and is_file(path)


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
