"""A table ready to be written, as Markdown and as HTML."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from html import escape

from segswap.files import write_text
from segswap.report.document import style_sheet

ABSENT = "-"
"""What stands where a table has no value."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell: its text, plain; whether it is bold, and set to the left."""

    text: str
    bold: bool = False
    left: bool = False


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table: headings, rows of cells, numbers of the rows that are ours among others', notes below."""

    title: str
    head: list[Cell]
    body: list[list[Cell]]
    ours: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def _markdown_cell(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    return f"**{text}**" if cell.bold else text


def grid_markdown(grid: Grid, level: int) -> str:
    """Return a table as Markdown, below a heading of a level."""
    rules = [":--" if cell.left else "--:" for cell in grid.head]
    lines = [[_markdown_cell(cell) for cell in row] for row in (grid.head, *grid.body)]
    lines.insert(1, rules)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([f"{'#' * level} {grid.title}", table, *grid.notes])


def _html_row(cells: Sequence[Cell], tag: str, ours: bool = False) -> str:
    parts = []
    for cell in cells:
        text = f"<strong>{escape(cell.text)}</strong>" if cell.bold else escape(cell.text)
        kind = ' class="text"' if cell.left else ""
        parts.append(f"<{tag}{kind}>{text}</{tag}>")
    opening = '<tr class="ours">' if ours else "<tr>"
    return f"{opening}{''.join(parts)}</tr>"


def grid_html(grid: Grid, level: int) -> str:
    """Return a table as HTML, below a heading of a level."""
    body = "\n".join(_html_row(row, "td", number in grid.ours) for number, row in enumerate(grid.body))
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in grid.notes)
    return (
        f'<h{level}>{escape(grid.title)}</h{level}>\n<div class="wide"><table>\n<thead>{_html_row(grid.head, "th")}'
        f"</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n{notes}"
    )


def write_fragment(path: str | os.PathLike, section: str) -> None:
    """Write a section of HTML that opens by itself, styled, and that other pages take in as it is."""
    # Without the frame of a document no encoding is declared, so everything beyond ASCII is escaped.
    fragment = style_sheet() + "\n" + section
    write_text(path, fragment.encode("ascii", "xmlcharrefreplace").decode())
