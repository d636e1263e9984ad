"""What a search has found: a page, a table of all scores, and the same as JSON.

The page is one self-contained file. A picture that several queries find is embedded once.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import IO, Any

import numpy as np

from segswap.drawing import coloured_lines
from segswap.files import whole_file, write_json, write_text
from segswap.images import UnreadableImage
from segswap.matching.match import AS_GIVEN
from segswap.report.document import html_document
from segswap.report.svg import EmbeddedPictures, lines, mask_tint, svg, used
from segswap.search.index import Index
from segswap.search.search import Hit, Result

COLUMNS = (
    "query", "rank", "image", "score", "p_value", "above_threshold", "box", "similarity", "agreement", "rotation",
    "mirrored",
)  # fmt: skip
"""Of ``results.csv``; a box is x1,y1,x2,y2 in pixels of the image, as ``segswap search --box`` takes it."""

SHOWN_QUERIES = 50
"""Queries on a page; the tables have all."""

_LONGEST = 360
"""Longer side of an embedded picture in pixels."""

_QUALITY = 80
_GAP = 8

_CSS = """
.hits { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)); padding: 0;
  list-style: none; align-items: start; }
.hits li { max-width: none; border: 1px solid var(--line); border-radius: .4rem; padding: .5rem;
  background: var(--card); }
.hits li.above { border: 2px solid var(--accent); }
.hits svg, .query svg { width: 100%; height: auto; max-height: 22rem; }
.hits details svg { max-height: none; }
@media (min-width: 45rem) { .hits li:has(details[open]) { grid-column: span 2; } }
.query { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.query figure { flex: 0 1 22rem; }
.name, .query figcaption { overflow-wrap: anywhere; }
.above-mark { color: var(--accent); font-weight: 600; }
.box { fill: none; stroke: #e57300; stroke-width: 2.5; vector-effect: non-scaling-stroke; }
.contour { fill: none; stroke: #00bedc; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.lines path { stroke-width: 1.5; }
.lines circle { stroke: #1f2937; }
"""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What was found.

    Attributes:
        queries: their number.
        remarks: why there is no threshold, for those that have none.
        above: places above the threshold, of all queries.
        recognised: queries with a place above the threshold.
    """

    queries: int
    remarks: tuple[str, ...]
    above: int
    recognised: int

    def words(self) -> str:
        """Return it as a line of text."""
        if self.remarks:
            return self.remarks[0]
        if self.queries == 1:
            return f"{self.above or 'no'} place{'s' * (self.above != 1)} above the threshold"
        return f"{self.recognised} of {self.queries} queries have a place above the threshold"


def write_search(
    results: Iterable[Result], index: Index, output: str | os.PathLike, top: int, facts: dict[str, str]
) -> Summary:
    """Write ``index.html``, ``results.csv`` and ``results.json`` of a search, each whole.

    Args:
        results: one for each query; each is let go when it is written.
        index: that was searched.
        output: folder, made where it is absent.
        top: hits of a query on the page and in the JSON; the table has all that are listed.
        facts: how the search was made, by title.
    """
    output, page = Path(output), _Page(index)
    sections: list[str] = []
    told: list[dict[str, Any]] = []
    counts: list[int] = []
    with whole_file(output / "results.csv") as temporary, _open_table(temporary) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, result in enumerate(results):
            name = result.query.name
            writer.writerows(_row(name, rank, hit) for rank, hit in enumerate(result.hits, 1))
            counts.append(sum(bool(hit.above) for hit in result.hits))
            told.append(_as_values(result, top))
            if number < SHOWN_QUERIES:
                sections.append(_section(page, number, result, top))
    about = {"folder": str(index.folder), "left_out": index.left_out, "about": facts}
    write_json(output / "results.json", {**about, "queries": told})
    write_text(output / "index.html", _document(page, sections, told, facts))
    remarks = tuple(query["remark"] for query in told if query["remark"])
    return Summary(len(told), remarks, sum(counts), sum(count > 0 for count in counts))


def _open_table(path: Path) -> IO[str]:
    return open(path, "w", newline="", encoding="utf-8", errors="backslashreplace")


def _row(query: str, rank: int, hit: Hit) -> list[Any]:
    p_value, above = ("" if value is None else value for value in (hit.p_value, hit.above))
    box = ",".join(f"{value:.1f}" for value in hit.box)
    agreement = "" if hit.agreement is None else f"{hit.agreement:.6f}"
    return [
        query,
        rank,
        hit.image,
        hit.score,
        p_value,
        str(above).lower(),
        box,
        f"{hit.similarity:.6f}",
        agreement,
        hit.turn.rotation,
        str(hit.turn.mirrored).lower(),
    ]


def _as_values(result: Result, top: int) -> dict[str, Any]:
    hits = [
        {
            "rank": rank,
            "image": hit.image,
            "score": hit.score,
            "p_value": hit.p_value,
            "above_threshold": hit.above,
            "box": [round(value, 1) for value in hit.box],
            "similarity": hit.similarity,
            "agreement": hit.agreement,
            "rotation": hit.turn.rotation,
            "mirrored": hit.turn.mirrored,
            "is_query": hit.is_query,
        }
        for rank, hit in enumerate(result.hits[:top], 1)
    ]
    return {
        "query": result.query.name,
        "box": result.query.box,
        "searched": result.searched,
        "listed": len(result.hits),
        "matched": result.matched,
        "negatives": result.negatives,
        "threshold": result.threshold,
        "remark": result.remark,
        "left_out": result.left_out,
        "hits": hits,
    }


class _Page:
    """What the parts of the page share: the pictures, embedded where they are first asked for."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.pictures = EmbeddedPictures(_LONGEST, _QUALITY)

    def hit(self, number: int) -> tuple[str, tuple[int, int]]:
        """Return id and shown (width, height) of a picture of the index; a grey one where its file has gone."""
        identity = f"image-{number}"
        if identity not in self.pictures:
            try:
                picture = self._index.read(number)
            except UnreadableImage:
                width, height = self._index.sizes[number]
                picture = np.full((height, width, 3), 128, np.uint8)
            self.pictures.add(identity, picture)
        return identity, self.pictures.size(identity)

    def full_size(self, number: int) -> tuple[int, int]:
        """Return (width, height) of a picture of the index, in its own pixels."""
        return tuple(self._index.sizes[number].tolist())


def _rectangle(box: Iterable[float], full: Iterable[int], shown: Iterable[int]) -> str:
    """Return a box, in pixels of a picture of size ``full``, over it as it is shown."""
    scale = np.array(tuple(shown)) / np.array(tuple(full))
    x1, y1, x2, y2 = np.array(tuple(box)) * np.tile(scale, 2)
    return f'<rect class="box" x="{x1:.4g}" y="{y1:.4g}" width="{x2 - x1:.4g}" height="{y2 - y1:.4g}"/>'


def _section(page: _Page, number: int, result: Result, top: int) -> str:
    query = result.query
    whole, detail = f"query-{number}", f"query-{number}-detail"
    shown = page.pictures.add(whole, query.image)
    full = query.image.shape[1::-1]
    body = used(whole)
    if query.box is not None:
        body += _rectangle(query.box, full, shown)
        detail_size = page.pictures.add(detail, query.detail)
    else:
        detail, detail_size = whole, shown
    what = query.name if query.box is None else f"{query.name}, box {','.join(f'{v:g}' for v in query.box)}"
    hits = result.hits[:top]
    strongest = max((float(hit.mask.max()) for hit in hits if hit.mask is not None), default=1.0)
    cards = [
        _card(page, f"hit-{number}-{rank}", rank, hit, max(strongest, 1e-6), (detail, detail_size))
        for rank, hit in enumerate(hits, 1)
    ]
    none = '<p class="note">There is no other picture.</p>' if not cards else ""
    return (
        f'<section><h2>{escape(query.name)}</h2><div class="query"><figure>{svg(*shown, what, body)}<figcaption>'
        f"{escape(what)}</figcaption></figure><div>{_verdict(result)}</div></div>"
        f'{none}<ol class="hits">{"".join(cards)}</ol></section>'
    )


def _verdict(result: Result) -> str:
    """Return what the scores of a query say, in words."""
    count = sum(bool(hit.above) for hit in result.hits)
    words = [
        f"{result.searched} picture{'s were' if result.searched != 1 else ' was'} searched; the matcher looked at "
        f"{result.matched or 'no'} place{'s' * (result.matched != 1)}."
    ]
    if result.remark:
        words.append(f"{result.remark[:1].upper()}{result.remark[1:]}.")
    else:
        verb = "lies" if count == 1 else "lie"
        words.append(f"<b>{count or 'None'}</b> of them {verb} above the threshold of {result.threshold:.4g}.")
        words.append(f"The scores are compared with those of {result.negatives} pictures.")
    if result.left_out:
        words.append(f"Left out as the query's own picture: {escape(', '.join(result.left_out))}.")
    return "".join(f"<p>{word}</p>" for word in words)


def _card(
    page: _Page, identity: str, rank: int, hit: Hit, strongest: float, detail: tuple[str, tuple[int, int]]
) -> str:
    picture, shown = page.hit(hit.number)
    box = _rectangle(hit.box, page.full_size(hit.number), shown) if hit.box[2] > hit.box[0] else ""
    tint = "" if hit.mask is None else mask_tint(hit.mask / strongest, *shown)
    view = svg(*shown, f"{rank}: {hit.image}", used(picture) + tint + box)
    p_value = "" if hit.p_value is None else f", p-value {hit.p_value:.3g}"
    above = ' class="above"' if hit.above else ""
    marks = ['<span class="above-mark">above the threshold</span>'] if hit.above else []
    marks += ["the query's own picture"] if hit.is_query else []
    marks += [f"the query {hit.turn}"] if hit.turn != AS_GIVEN else []
    marks += ["found by likeness alone"] if hit.mask is None else []
    return (
        f'<li{above}><figure>{view}<figcaption><span class="name">{rank}. '
        f"{escape(hit.image)}</span><br>score {hit.score:.4g}{p_value}{''.join(f'<br>{mark}' for mark in marks)}"
        f"</figcaption></figure>{_correspondences(identity, hit, detail, (picture, shown))}</li>"
    )


def _correspondences(
    identity: str, hit: Hit, detail: tuple[str, tuple[int, int]], picture: tuple[str, tuple[int, int]]
) -> str:
    (left, left_size), (right, right_size) = detail, picture
    inside = hit.lines[((hit.lines >= 0) & (hit.lines <= 1)).all(axis=1)]
    if not len(inside):
        return ""
    start = left_size[0] + _GAP
    body = (
        used(left)
        + used(right, start)
        + lines(identity, coloured_lines(inside[:, :2], inside[:, 2:]), left_size, right_size, _GAP)
    )
    drawn = svg(start + right_size[0], max(left_size[1], right_size[1]), f"cells that correspond in {hit.image}", body)
    return f"<details><summary>What corresponds</summary>{drawn}</details>"


def _document(page: _Page, sections: list[str], told: list[dict[str, Any]], facts: dict[str, str]) -> str:
    title = "What the search found"
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in facts.items())
    more = ""
    if len(told) > len(sections):
        more = f"<p>The first {len(sections)} of {len(told)} queries are shown; results.csv has all.</p>"
    body = [
        f"<header><h1>{escape(title)}</h1>",
        "<p>Best first. The box is where the query lies. The tint is where the matcher recognised the query, relative "
        "to where that is strongest. A p-value is the share of pictures without the query that score as high: the "
        "smaller, the surer.</p>",
        f"<dl>{listed}</dl>{more}</header>",
        page.pictures.definitions(),
        *sections,
    ]
    return html_document(title, "\n".join(body), _CSS)
