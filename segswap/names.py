"""Names of files that are not UTF-8: how they are shown, and kept in tables.

For a system a name is bytes. Python gives bytes that are no UTF-8 as lone surrogates, and takes them back; so names
are in this project's memory. Text that is written or printed shows such a byte as ``\\udcfc``, which JSON reads as the
same name. A table must hold UTF-8 and is read back by name: there ``as_text`` and ``from_text`` stand on both sides.
"""

from __future__ import annotations

import re

_SURROGATE = "udc"
"""What follows the backslash of an escape, before the two digits of the byte."""

_BACKSLASH = "5c"


def is_utf8(name: str) -> bool:
    """Return whether a name is UTF-8."""
    return not re.search("[\ud800-\udfff]", name)


def as_text(name: str) -> str:
    """Return a name as text that is UTF-8; ``from_text`` gives the name back.

    Only names that are not UTF-8 change, and those that look as if they were escaped.
    """
    escaped = re.sub(rf"\\(?={_SURROGATE})", rf"\\{_SURROGATE}{_BACKSLASH}", name)
    return escaped.encode("utf-8", "backslashreplace").decode()


def from_text(text: str) -> str:
    """Return the name that ``as_text`` has made a text of."""
    return re.sub(rf"\\{_SURROGATE}({_BACKSLASH}|[89a-f][0-9a-f])", _unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    return "\\" if found[1] == _BACKSLASH else chr(0xDC00 + int(found[1], 16))
