"""Lists of names as people write them, and the files that they mean.

A list made on another system differs from the names on the disk in ways that nobody sees. Examples are a byte order
mark, blanks and carriage returns at the ends of lines, backslashes, and another normal form of Unicode.
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
from segswap.listing import IMAGE_SUFFIXES

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


def is_file(path: str | os.PathLike) -> bool:
    """Return whether a path is a file's; a name that no file can have is none."""
    return stat.S_ISREG(_mode(path))


def _is_folder(path: str | os.PathLike) -> bool:
    return stat.S_ISDIR(_mode(path))


def _is_picture(path: str | os.PathLike) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES and is_file(path)


def _mode(path: str | os.PathLike) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0


class Pictures:
    """The pictures of a folder, found by the names of a list.

    An inner folder is listed once, and only where a name is not there as it is written.

    Args:
        folder: that the names are relative to.
    """

    def __init__(self, folder: Path) -> None:
        self._root = str(folder)
        self._folders: dict[tuple[str, str], str | None] = {}
        self._known: dict[tuple[str, Callable[[str], str]], dict[str, list[str]]] = {}

    def find(self, name: str) -> str | None:
        """Return the name on the disk of the file that a list names so; None where there is none.

        The file with the very name comes first. Else backslashes are slashes, and normal forms of Unicode and blanks at
        the ends do not count.

        Raises:
            InputError: when several files are equally near to the name.
        """
        return name if is_file(os.path.join(self._root, name)) else self._near(name, _plain, is_file)

    def find_stem(self, name: str) -> str | None:
        """Return the name on the disk of the picture with the stem of a name and another suffix; else as ``find``."""
        return self._near(name, stem, _is_picture)

    def _near(self, name: str, form: Callable[[str], str], wanted: Callable[[str], bool]) -> str | None:
        """Return the name on the disk of what has a form of a name."""
        *parts, last = name.replace("\\", "/").split("/")
        folder = self._inner(parts)
        return None if folder is None else self._entry(folder, last, form, wanted)

    def _inner(self, parts: Sequence[str]) -> str | None:
        """Return the name on the disk of an inner folder, with a slash at its end."""
        folder = ""
        for part in parts:
            if (folder, part) not in self._folders:
                self._folders[folder, part] = self._entry(folder, part, _plain, _is_folder)
            if (found := self._folders[folder, part]) is None:
                return None
            folder = f"{found}/"
        return folder

    def _entry(self, folder: str, name: str, form: Callable[[str], str], wanted: Callable[[str], bool]) -> str | None:
        """Return the entry of an inner folder that has a name as it is written, else the one that has its form."""
        root = os.path.join(self._root, folder)
        if name in (".", ".."):
            return folder + name
        if (folder, form) not in self._known:
            known = self._known[folder, form] = collections.defaultdict(list)
            for entry in _entries(root):
                known[form(entry)].append(entry)
        found = [each for each in self._known[folder, form].get(form(name), ()) if wanted(root + each)]
        if name in found:
            return folder + name
        if len(found) > 1:
            raise InputError(
                f"{root}: {shown(name)} is not there, {' and '.join(map(shown, sorted(found)))} are; write the name in "
                "the list as that of the picture which is meant"
            )
        return folder + found[0] if found else None


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
