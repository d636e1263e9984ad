"""Lists of pairs to match: a CSV file with the columns a and b, paths relative to it, and perhaps name."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

from segswap.errors import InputError
from segswap.lists import Pictures, read_text, unseen


@dataclass(frozen=True)
class ListedPair:
    """A row of a list.

    Attributes:
        line: of the file, from 1.
        name: of the pair, a plain file name: that in the list, else the number of the row (``0001``).
        a, b: the pictures.
    """

    line: int
    name: str
    a: Path
    b: Path


def read_pairs(path: str | os.PathLike) -> list[ListedPair]:
    """Read a list of pairs: UTF-8, separated by commas (or semicolons, as some spreadsheets write).

    Other columns than a, b and name are passed over.

    Raises:
        InputError: naming the line, when the file is no such list, a picture is missing, or pairs or names repeat.
    """
    path = Path(path)
    text, pictures = read_text(path, "a CSV file with columns a,b"), Pictures(path.parent)
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in head and "," not in head else ",")
    if not {"a", "b"} <= set(reader.fieldnames or ()):
        found = ", ".join(reader.fieldnames or ()) or "nothing"
        raise InputError(f"{path}: line 1: expected a header with the columns a,b (and perhaps name), found {found}")
    pairs: list[ListedPair] = []
    try:
        for number, row in enumerate(reader, 1):
            pairs.append(_pair(path, pictures, reader.line_num, number, row))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not readable as CSV ({error})") from None
    if not pairs:
        raise InputError(f"{path}: no pair in it; write one a line below the header")
    _refuse_repeated(path, pairs)
    return pairs


def _pair(path: Path, known: Pictures, line: int, number: int, row: dict[str, str | None]) -> ListedPair:
    """Return a row as a pair; ``number`` it has among the rows."""
    pictures = []
    for column in "ab":
        value = (row[column] or "").strip()
        if not value:
            raise InputError(f"{path}: line {line}: column {column} is empty; expected the path of a picture")
        if (found := known.find(value)) is None:
            raise InputError(
                f"{path}: line {line}: {value}{unseen(value)}: no such file; paths are relative to the list's folder, "
                f"{path.parent}"
            )
        pictures.append(path.parent / found)
    name = (row.get("name") or "").strip() or f"{number:04d}"
    if name in (".", "..") or "/" in name or "\0" in name or len(name.encode()) > 200:
        raise InputError(
            f"{path}: line {line}: name {name!r}: expected a plain file name, as it becomes a folder's; without slashes"
        )
    return ListedPair(line, name, *pictures)


def _refuse_repeated(path: Path, pairs: list[ListedPair]) -> None:
    """Raise ``InputError`` where two rows are the same pair or have the same name."""
    lines: dict[object, int] = {}
    for pair in pairs:
        # Names differ by more than case: some file systems do not tell it apart.
        marks = {
            f"name {pair.name!r}": pair.name.casefold(),
            f"the pair {pair.a.name}, {pair.b.name}": (pair.a.resolve(), pair.b.resolve()),
        }
        for what, mark in marks.items():
            if mark in lines:
                raise InputError(f"{path}: line {pair.line}: {what} is in line {lines[mark]} already; remove one")
            lines[mark] = pair.line
