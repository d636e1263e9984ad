"""Structures of MATLAB files, level 5 of the format (MATLAB 5 to 7).

Written from the description of the format ("MAT-File Format", MathWorks). scipy's reader ends the process on files
that are damaged (a segmentation fault). This one reads what data sets of places need and checks every length.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segswap.errors import InputError

MAX_BYTES = 1 << 28
"""Of an unpacked variable: ten times that of the largest data set. A few packed bytes can claim to be any number."""

_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_LETTERS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _TEXT = 1, 2, 4
_NUMERIC = range(6, 16)
_DEEPEST = 8
"""Cells within cells and structures; recursion has an end."""


def read_structure(path: Path, name: str) -> dict[str, Any]:
    """Return the fields of a structure, in their order.

    Returns:
        by field: text of one row, numbers as float64 array of its shape, cells as list in MATLAB's order, structures of
        one row as dictionary; None for everything else.

    Raises:
        InputError: when the file is missing, no such file of MATLAB, damaged, or has no such structure.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected the data set's .mat structure") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); expected a .mat structure") from None
    if b"HDF5" in data[:1024] or data[:19] == b"MATLAB 7.3 MAT-file":
        raise InputError(f"{path}: of version 7.3 of the format; save it in MATLAB with '-v7'")
    try:
        for element, order in _variables(data):
            found = _Matrix(element, order)
            if found.name == name:
                value = found.value(_DEEPEST)
                if not isinstance(value, dict):
                    raise ValueError(f"{name} is no structure of one row")
                return value
        raise ValueError(f"it holds no {name}")
    except (ValueError, struct.error, zlib.error, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: not readable as a {name} of MATLAB, up to version 7 ({error})") from None


def _variables(data: bytes) -> Iterator[tuple[memoryview, str]]:
    """Yield the matrices of a file, unpacked, with the order of their bytes."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError("its header is no MATLAB file's")
    for kind, element in _elements(memoryview(data)[128:], order):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(element, MAX_BYTES)
            if unpacker.unconsumed_tail:
                raise ValueError(f"a variable of more than {MAX_BYTES:,} bytes")
            if not unpacker.eof:
                raise ValueError("packed data without their end")
            kind, element = next(_elements(memoryview(unpacked), order), (0, element))
        if kind == _MATRIX:
            yield element, order


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield kind and content of the elements that lie one after another."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start, end = at + 8, at + 8 + size + (-size % 8 if kind != _COMPRESSED else 0)
        if kind >> 16:  # up to four bytes lie in the tag itself
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if start + size > min(len(data), max(end, at + 8)):
            raise ValueError("an element ends beyond what holds it")
        yield kind, data[start : start + size]
        at = end


class _Matrix:
    """A matrix: its class, shape and name are read at once, its content when it is asked for."""

    def __init__(self, data: memoryview, order: str) -> None:
        self._order, self._elements = order, _elements(data, order)
        self._kind = sum(self._whole_numbers()[:1]) & 0xFF
        self._shape = self._whole_numbers()
        self.name = self._bytes().decode("ascii", "replace")
        if len(self._shape) < 2 or min(self._shape) < 0:
            raise ValueError(f"a matrix of shape {self._shape}")
        self._count = math.prod(self._shape)

    def value(self, depth: int) -> Any:
        """Return the content, see ``read_structure``."""
        if depth == 0:
            raise ValueError("cells within cells without an end")
        if self._kind == _CELL:
            return self._inner(self._count, depth)
        if self._kind == _STRUCT:
            return self._fields(depth)
        if self._kind == _TEXT:
            return self._text()
        return self._array() if self._kind in _NUMERIC else None

    def _next(self) -> tuple[int, memoryview]:
        if (found := next(self._elements, None)) is None:
            raise ValueError("a matrix that is cut off")
        return found

    def _bytes(self) -> bytes:
        return bytes(self._next()[1])

    def _numbers(self) -> np.ndarray:
        kind, content = self._next()
        if kind not in _NUMBERS:
            raise ValueError(f"data of type {kind} where numbers are expected")
        return np.frombuffer(content, np.dtype(_NUMBERS[kind]).newbyteorder(self._order))

    def _whole_numbers(self) -> tuple[int, ...]:
        """Return numbers of four bytes, in which the format keeps classes, shapes and lengths."""
        kind, content = self._next()
        if kind not in (5, 6):
            raise ValueError(f"data of type {kind} where whole numbers are expected")
        return struct.unpack(f"{self._order}{len(content) // 4}{'i' if kind == 5 else 'I'}", content)

    def _inner(self, count: int, depth: int) -> list[Any]:
        values = []
        for _ in range(count):
            kind, content = self._next()
            if kind != _MATRIX:
                raise ValueError(f"data of type {kind} where a matrix is expected")
            values.append(_Matrix(content, self._order).value(depth - 1) if len(content) else None)
        return values

    def _fields(self, depth: int) -> dict[str, Any] | None:
        length, names = sum(self._whole_numbers()[:1]), self._bytes()
        if length < 1:
            raise ValueError("a structure whose fields have no names")
        fields = [
            names[at : at + length].split(b"\0")[0].decode("ascii", "replace") for at in range(0, len(names), length)
        ]
        return dict(zip(fields, self._inner(len(fields), depth), strict=True)) if self._count == 1 else None

    def _text(self) -> str | None:
        if self._count == 0:
            return ""
        if self._shape[0] != 1:
            return None
        kind, content = self._next()
        if kind not in _LETTERS:
            raise ValueError(f"data of type {kind} where text is expected")
        coding = _LETTERS[kind]
        if coding in ("utf-16", "utf-32"):
            coding += "-le" if self._order == "<" else "-be"
        return bytes(content).decode(coding)

    def _array(self) -> np.ndarray:
        numbers = self._numbers()
        if len(numbers) != self._count:
            raise ValueError(f"{len(numbers)} numbers in a matrix of shape {self._shape}")
        return numbers.astype(float).reshape(self._shape, order="F")
