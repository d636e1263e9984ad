"""The frame of every HTML file: one document, its style within, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

CSS = """
:root { color-scheme: light dark; --ink: #1f2937; --soft: #5b6472; --line: #e5e7eb; --back: #ffffff; --card: #f9fafb;
  --accent: #c2410c; --ours: #fff7ed; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --soft: #a3abb8; --line: #374151; --back: #111827;
  --card: #1f2937; --accent: #fb923c; --ours: #43260f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 76rem; color: var(--ink); background: var(--back);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
a { color: var(--accent); }
p, li { max-width: 48rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none; }
article h2 { font-size: 1rem; font-family: ui-monospace, Menlo, Consolas, monospace; }
img, svg { max-width: 100%; height: auto; }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: .8rem; }
.wide { overflow-x: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .75rem 0; font-size: .9rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .35rem; }
th, td { padding: .3rem .75rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
thead th { border-bottom: 2px solid var(--ink); }
tr.ours td { background: var(--ours); }
.note { color: var(--soft); font-size: .85rem; }
details { margin: .5rem 0; }
summary { cursor: pointer; }
details li { overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .75rem 1rem;
  overflow-x: auto; font-size: .8rem; line-height: 1.4; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
kbd { font: .85em ui-monospace, Menlo, Consolas, monospace; border: 1px solid var(--line); border-radius: .25rem;
  padding: 0 .3rem; background: var(--card); }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""
"""The rules of every page: colours, light and dark, fonts, tables."""


def style_sheet() -> str:
    """Return the style element that every page and table file carries."""
    return f"<style>{CSS}</style>"


def html_document(title: str, body: str, css: str = "") -> str:
    """Return a whole HTML document.

    Args:
        title: plain text, escaped here.
        body: HTML, escaped where it was made.
        css: rules of this document alone, after those of every page.
    """
    own = f"\n<style>{css}</style>" if css else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n{style_sheet()}{own}\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]], title: str = "") -> str:
    """Return a table of plain texts, escaped here; the first column is left-aligned."""
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table>{caption}<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def number(value: Any) -> str:
    """Return a value for people: numbers with thousands apart or four digits, others as they are."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def duration(seconds: float) -> str:
    """Return seconds in words."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{seconds:.1f} s"
