"""Galleries of a pair set: what training sees, with labels drawn in and the recipe in words.

An HTML page is self-contained (pictures embedded, nothing fetched), so it can be mailed and goes into the
Snakemake report; a contact sheet is one JPEG for a quick look.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from html import escape
from typing import Any

import numpy as np

from segswap.drawing import (
    CYAN,
    contact_sheet,
    correspondence_lines,
    draw_correspondences,
    evenly_spread,
    fit_height,
    overlay_mask,
    spotlight,
    spread_cells,
    text_picture,
    write_picture,
)
from segswap.files import read_json, write_text
from segswap.pairs.pair_set import PairSet, Sample
from segswap.pairs.recipe import rejected_reasons
from segswap.report.document import html_document
from segswap.report.svg import embedded, lines, mask_tint, svg, used

_SIDE = 240
"""Height of a gallery's pictures in pixels: 64 pairs stay below 8 MB."""

_QUALITY = 80
_LINES = 12
_GAP = 8

_CSS = """
figure svg { display: block; width: 100%; height: auto; }
.pictures, .combinations { display: grid; gap: .5rem; margin-bottom: .5rem; }
.pictures { grid-template-columns: repeat(auto-fill, minmax(min(11rem, 40%), 1fr)); }
.combinations { grid-template-columns: repeat(auto-fill, minmax(min(28rem, 100%), 1fr)); }
.contour { fill: none; stroke: #00bedc; stroke-width: 1.5; filter: drop-shadow(0 0 1px #000); }
.lines path { stroke-width: 1.5; }
.lines circle { stroke: #1f2937; }
body:has(#labels:not(:checked)) .label { display: none; }
.controls { position: sticky; top: 0; padding: .4rem 0; background: var(--back); z-index: 1; }
article { scroll-margin-top: 3rem; }
"""

_CONTROLS = """<p class="controls"><label><input type="checkbox" id="labels" checked> draw the labels</label>
<span class="note">(keys: <kbd>j</kbd> next pair, <kbd>k</kbd> the one before, <kbd>r</kbd> its recipe,
<kbd>l</kbd> labels)</span></p>"""

_KEYS = """
const pairs = [...document.querySelectorAll('article')];
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = pairs.indexOf(document.activeElement.closest('article'));
  const next = {j: at + 1, k: at - 1}[event.key];
  if (next !== undefined && pairs[next]) { pairs[next].focus(); pairs[next].scrollIntoView(); }
  if (event.key === 'r' && at >= 0) pairs[at].querySelector('details').toggleAttribute('open');
  if (event.key === 'l') document.getElementById('labels').click();
});
"""

_TITLES = {"a.jpg": "source", "b.jpg": "target", "as.jpg": "restyled source", "bs.jpg": "restyled target"}


def _lines_picture(sample: Sample, side: int) -> np.ndarray:
    """Return source and target with both masks and lines from cells of the source to their places in the target."""
    labels = sample.labels
    a = spotlight(fit_height(sample.pictures["a.jpg"], side), labels.mask_a)
    b = spotlight(fit_height(sample.pictures["b.jpg"], side), labels.mask_b)
    return draw_correspondences(a, b, spread_cells(labels.mask_a, _LINES), labels.corr_a)


def sample_pictures(sample: Sample, side: int) -> dict[str, np.ndarray]:
    """Return the pictures that show a pair, by title, RGB uint8 of height ``side``.

    Source, target, both restyled (when the set has them), the masks over source and target, and the
    correspondences.
    """
    shown = {_TITLES[name]: fit_height(picture, side) for name, picture in sample.pictures.items()}
    for title, name, mask in (
        ("source, mask", "a.jpg", sample.labels.mask_a),
        ("target, mask", "b.jpg", sample.labels.mask_b),
    ):
        shown[title] = overlay_mask(fit_height(sample.pictures[name], side), mask, CYAN)
    shown["correspondences"] = _lines_picture(sample, side)
    return shown


def describe_sample(sample: Sample) -> dict[str, str]:
    """Return the key facts of a pair's recipe in words, by title."""
    record = sample.record
    cells = sample.labels.mask_a.size
    facts = {
        "photos": f"{record['source_image_id']} into {record['target_image_id']}",
        "masks": f"{record['cells_a'] / cells:.0%} of the source, {record['cells_b'] / cells:.0%} of the target",
    }
    if record["layout"] >= 0:
        facts["layout"] = f"{record['layout']} of 0 to 15"
    if record["crop"]:
        facts["source"] = "cut at the object's nearest border"
    columns = ("annotation_id", "fit", "stretch_x", "stretch_y", "angle")
    objects = zip(*(record[column] for column in columns), strict=True)
    for number, (annotation, size, stretch_x, stretch_y, angle) in enumerate(objects, 1):
        facts[f"object {number}"] = (
            f"annotation {annotation}, {size:.0%} of the largest size that fits, stretched {stretch_x:.2f} x "
            f"{stretch_y:.2f}, turned {angle:+.1f}°"
        )
    for side, title in (("a", "source style"), ("b", "target style")):
        if record[f"style_{side}"]:
            facts[title] = f"{record[f'style_{side}']}, strength {record[f'strength_{side}']:.2f}"
    facts["rejected draws"] = _counted(Counter(rejected_reasons(record)))
    return facts


def _counted(reasons: dict[str, int]) -> str:
    """Return counts by reason in words, for example ``3 (2 masks touch, 1 mask too small)``."""
    if not reasons:
        return "none"
    listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda r: (-r[1], r[0])))
    return f"{sum(reasons.values()):,} ({listed})"


def describe_set(content: dict[str, Any]) -> dict[str, str]:
    """Return the numbers of a pair set in words, by title, from the content of its ``manifest.json``."""
    facts = {
        "kind": {"1obj": "one object", "2obj": "two objects"}.get(content["kind"], content["kind"]),
        "pairs": f"{content['pairs']:,}",
        "shards": f"{len(content['shards']):,} ({content['bytes'] / 1e6:,.1f} MB)",
        "rejected draws": _counted(content["rejected_draws"]),
        "unreadable photos": f"{len(content['unreadable_photos']):,}",
    }
    if content["pairs"]:
        facts["draws per pair"] = f"{1 + sum(content['rejected_draws'].values()) / content['pairs']:.2f}"
    return facts


def _fact_list(facts: dict[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _figure(title: str, picture: str) -> str:
    return f"<figure>{picture}<figcaption>{escape(title)}</figcaption></figure>"


def _figures(sample: Sample) -> str:
    """Return the views of a pair: its pictures, the masks over them, correspondences in every choice of style."""
    key, labels = sample.key, sample.labels
    pictures = {name: fit_height(picture, _SIDE) for name, picture in sample.pictures.items()}
    sizes = {name: (picture.shape[1], picture.shape[0]) for name, picture in pictures.items()}

    def identity(name: str) -> str:
        return f"{key}.{name}"

    plain = [
        _figure(_TITLES[name], svg(*sizes[name], _TITLES[name], embedded(picture, identity(name), _QUALITY)))
        for name, picture in pictures.items()
    ]
    for name, mask in (("a.jpg", labels.mask_a), ("b.jpg", labels.mask_b)):
        title = f"{_TITLES[name]}, mask"
        body = f'{used(identity(name))}<g class="label">{mask_tint(mask, *sizes[name])}</g>'
        plain.append(_figure(title, svg(*sizes[name], title, body)))
    width = sizes["a.jpg"][0] + _GAP + sizes["b.jpg"][0]
    shown = correspondence_lines(spread_cells(labels.mask_a, _LINES), labels.corr_a)
    drawn = lines(identity("lines"), shown, sizes["a.jpg"], sizes["b.jpg"], _GAP)
    joined = []
    for first, second in itertools.product(*([n for n in pictures if n.startswith(side)] for side in "ab")):
        title = f"{_TITLES[first]} to {_TITLES[second]}"
        # The lines are the same in every choice of style: drawn once, shown again.
        both = used(identity(first)) + used(identity(second), sizes["a.jpg"][0] + _GAP)
        body = f'{both}<g class="label">{used(identity("lines")) if joined else drawn}</g>'
        joined.append(_figure(title, svg(width, _SIDE, title, body)))
    return f'<div class="pictures">{"".join(plain)}</div><div class="combinations">{"".join(joined)}</div>'


def _article(sample: Sample) -> str:
    facts = describe_sample(sample)
    shown = ", ".join(f"{title} {facts.pop(title)}" for title in ("photos", "masks"))
    record = json.dumps(sample.record, indent=1, sort_keys=True)
    key = escape(sample.key)
    return (
        f'<article id="{key}" tabindex="-1"><h2><a href="#{key}">{key}</a></h2><p class="note">{escape(shown)}</p>'
        f"{_figures(sample)}<details><summary>Recipe</summary>{_fact_list(facts)}<pre>{escape(record)}</pre></details>"
        "</article>"
    )


def write_gallery(manifest: str | os.PathLike, output: str | os.PathLike, count: int) -> None:
    """Write a self-contained HTML page of up to ``count`` pairs, spread evenly over a pair set.

    Args:
        manifest: the set's ``manifest.json``.
        output: the page.
        count: pairs shown; 64 make a page of some 6 MB.

    Raises:
        InputError: when the set is incomplete or damaged.
    """
    pairs, content = PairSet(manifest), read_json(manifest)
    shown = evenly_spread(len(pairs), count)
    unreadable = "".join(f"<li>{escape(message)}</li>" for message in content["unreadable_photos"])
    named = f"<details><summary>Unreadable photos</summary><ul>{unreadable}</ul></details>" if unreadable else ""
    title = f"Pairs: {describe_set(content)['kind']}"
    body = [
        f"<header><h1>{escape(title)}</h1>",
        "<p>Source photo, target with the source's object blended in, both restyled, and the labels: masks, and "
        "correspondences of masked cells, in every choice of style that training makes.</p>",
        _fact_list({**describe_set(content), "shown here": f"{len(shown):,}, spread evenly over the set"}),
        named,
        "</header>",
        _CONTROLS,
        *(_article(pairs.sample(position)) for position in shown),
        f"<script>{_KEYS}</script>",
    ]
    write_text(output, html_document(title, "\n".join(body), _CSS))


def gallery_sheet(manifest: str | os.PathLike, output_jpg: str | os.PathLike, count: int) -> None:
    """Write one contact sheet of up to ``count`` pairs, spread evenly over a pair set; a row is a pair.

    Args:
        manifest: the set's ``manifest.json``.
        output_jpg: the sheet, a JPEG or, by its suffix, a PNG.
        count: rows; 12 make a JPEG of less than 300 kB.

    Raises:
        InputError: when the set is incomplete or damaged.
    """
    pairs = PairSet(manifest)
    side = 120
    titles = [_TITLES[name] for name in pairs.pictures] + ["masks and correspondences"]
    widths = [side] * len(pairs.pictures) + [2 * side]
    rows = [[text_picture(title, width, 12) for title, width in zip(titles, widths, strict=True)]]
    for position in evenly_spread(len(pairs), count):
        sample = pairs.sample(position)
        rows.append(
            [fit_height(picture, side) for picture in sample.pictures.values()] + [_lines_picture(sample, side)]
        )
    write_picture(output_jpg, contact_sheet(rows, gap=6), quality=72)
