"""The page of a collection's clusters: each a strip of regions; a click on one shows its pairs and correspondences.

One self-contained file: every image is embedded once and shown again by reference, as a region and in its pairs.
"""

from __future__ import annotations

import os
from collections import defaultdict
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa

from segswap.discovery.collection import Collection
from segswap.drawing import coloured_lines, evenly_spread
from segswap.files import write_text
from segswap.names import as_text
from segswap.progress import progress
from segswap.report.document import html_document
from segswap.report.svg import EmbeddedPictures, lines, svg, used

_LONGEST = 320
"""Longer side of an embedded image in pixels: 100 images make a page of some 3 MB."""

_QUALITY = 80
_STRIP = 120
"""Height of a region in a strip, in pixels."""

_MARGIN = 0.15
"""What is shown around a region, as a share of its longer side."""

_LINES = 16
_GAP = 8

_CSS = """
.strip { display: flex; flex-wrap: wrap; gap: .5rem; align-items: flex-start; margin: .5rem 0; }
.strip a { display: block; border: 2px solid transparent; border-radius: .3rem; line-height: 0; }
.strip a:hover { border-color: var(--accent); }
.strip figcaption { line-height: 1.3; max-width: 9rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.pairs { display: none; border-left: 3px solid var(--accent); padding-left: .75rem; margin: .5rem 0 1rem; }
.pairs:target { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); }
.pairs h3, .pairs p { grid-column: 1 / -1; margin: .25rem 0; overflow-wrap: anywhere; }
.pairs svg { width: 100%; height: auto; }
.pairs { scroll-margin-top: 14rem; }
.box { fill: none; stroke: #e57300; stroke-width: 2.5; }
.lines path { stroke-width: 1.5; }
.lines circle { stroke: #1f2937; }
"""


class _Page:
    """What the parts of the page share: the images, embedded where they are first asked for."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._number = {as_text(name): number for number, name in enumerate(collection.images)}
        self._full: dict[str, tuple[int, int]] = {}
        self.pictures = EmbeddedPictures(_LONGEST, _QUALITY)

    def identity(self, image: str) -> str:
        """Return the id of an image; file names are no ids."""
        return f"image-{self._number[image]}"

    def size(self, image: str) -> tuple[int, int]:
        """Return the shown width and height of an image, embedding it if it is not yet."""
        identity = self.identity(image)
        if identity not in self.pictures:
            picture = self._collection.read(self._number[image])
            self._full[image] = picture.shape[1::-1]
            self.pictures.add(identity, picture)
        return self.pictures.size(identity)

    def scaled(self, image: str, box: list[float]) -> np.ndarray:
        """Return a box (x1, y1, x2, y2) of the image's pixels in those that are shown."""
        shown = np.array(self.size(image))
        return np.array(box) * np.tile(shown / self._full[image], 2)


def _region(page: _Page, row: dict[str, Any]) -> str:
    """Return a region as a picture that leads to its pairs."""
    image = row["image"]
    box = page.scaled(image, row["box"])
    margin = _MARGIN * max(box[2] - box[0], box[3] - box[1])
    low = np.maximum(box[:2] - margin, 0)
    width, height = np.minimum(box[2:] + margin, page.size(image)) - low
    label = escape(f"region of {image}")
    target = f"cluster-{row['cluster']}-{page.identity(image)}"
    return (
        f'<figure><a href="#{target}" title="{escape(image)}"><svg viewBox="{low[0]:.4g} {low[1]:.4g} {width:.4g} '
        f'{height:.4g}" width="{_STRIP * width / height:.4g}" height="{_STRIP}" role="img" aria-label="{label}">'
        f"{used(page.identity(image))}</svg></a><figcaption>{escape(image)}</figcaption></figure>"
    )


def _box(page: _Page, row: dict[str, Any], left: float = 0) -> str:
    x1, y1, x2, y2 = page.scaled(row["image"], row["box"]) + [left, 0, left, 0]
    return f'<rect class="box" x="{x1:.4g}" y="{y1:.4g}" width="{x2 - x1:.4g}" height="{y2 - y1:.4g}"/>'


def _pair(page: _Page, identity: str, drawn: bool, regions: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    """Return both images of a pair, their regions, and lines between cells that correspond.

    ``drawn``: whether the pair is on the page already, under this id; it is then shown by reference.
    """
    first, second = rows[0]["image_1"], rows[0]["image_2"]
    (width_1, height_1), (width_2, height_2) = page.size(first), page.size(second)
    left = width_1 + _GAP
    some = [rows[n] for n in evenly_spread(len(rows), _LINES)]
    ends = (np.array([row[cell] for row in some]) for cell in ("cell_1", "cell_2"))
    body = [
        used(page.identity(first)),
        used(page.identity(second), left),
        *(_box(page, row, left * (row["image"] == second)) for row in regions if row["image"] in (first, second)),
        lines(f"{identity}-lines", coloured_lines(*ends), (width_1, height_1), (width_2, height_2), _GAP),
    ]
    shown = used(identity) if drawn else f'<g id="{identity}">{"".join(body)}</g>'
    picture = svg(left + width_2, max(height_1, height_2), f"{first} and {second}", shown)
    caption = escape(f"{first} and {second}: {len(rows)} correspondences")
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _cluster(page: _Page, number: int, regions: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> str:
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in pairs:
        by_pair[row["image_1"], row["image_2"]].append(row)
    images = list(dict.fromkeys(row["image"] for row in regions))
    parts = [
        f'<section id="cluster-{number}"><h2><a href="#cluster-{number}">Cluster {number}</a></h2>',
        f'<p class="note">{len(images)} images, {len(regions)} regions, {len(by_pair)} pairs with {len(pairs)} '
        f"correspondences; strength {regions[0]['strength']:.3g}</p>",
        f'<div class="strip">{"".join(_region(page, row) for row in regions)}</div>',
    ]
    drawn: set[str] = set()
    for image in images:
        shown = []
        for n, (pair, rows) in enumerate(by_pair.items()):
            if image in pair:
                identity = f"cluster-{number}-pair-{n}"
                shown.append(_pair(page, identity, identity in drawn, regions, rows))
                drawn.add(identity)
        parts.append(
            f'<div class="pairs" id="cluster-{number}-{page.identity(image)}"><h3>{escape(image)}</h3><p class="note">'
            f'Pairs of this cluster with this image. <a href="#cluster-{number}">Close</a></p>{"".join(shown)}</div>'
        )
    return "".join([*parts, "</section>"])


def write_clusters_page(
    collection: Collection,
    regions: pa.Table,
    correspondences: pa.Table,
    output: str | os.PathLike,
    facts: dict[str, str] | None = None,
) -> None:
    """Write the page of clusters.

    Args:
        regions, correspondences: of ``segswap.discovery.clusters``.
        facts: how the clusters came about, by title.

    Raises:
        InputError: when an image does not open.
    """
    page = _Page(collection)
    own: dict[int, list[dict[str, Any]]] = defaultdict(list)
    pairs: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for rows, found in ((regions, own), (correspondences, pairs)):
        for row in rows.to_pylist():
            found[row["cluster"]].append(row)
    clusters = [_cluster(page, number, own[number], pairs[number]) for number in progress(sorted(own), "clusters")]
    shown = {
        "folder": str(collection.folder),
        "images": str(len(collection.images)),
        **{f"left out: {name}": why for name, why in collection.left_out.items()},
        "clusters": str(len(clusters)),
        **(facts or {}),
    }
    listed = "".join(f"<dt>{escape(title)}</dt><dd>{escape(words)}</dd>" for title, words in shown.items())
    body = [
        "<header><h1>What the images share</h1>",
        "<p>Each cluster is one detail that several images repeat, strongest first. A click on a region shows the "
        "pairs of its image, with the cells that correspond.</p>",
        f"<dl>{listed}</dl></header>",
        page.pictures.definitions(),
        *(clusters or ["<p>Nothing repeats: no correspondence between two images agrees with another one.</p>"]),
    ]
    write_text(output, html_document("What the images share", "\n".join(body), _CSS))
