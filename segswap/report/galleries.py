"""Galleries of a pair set: what training sees, with labels drawn in and the recipe in words.

An HTML page is self-contained (pictures embedded, nothing fetched), so it can be mailed and goes into the
Snakemake report; a contact sheet is one JPEG for a quick look.
"""

from __future__ import annotations

import os
from collections import Counter
from html import escape
from typing import Any

import numpy as np

from segswap.drawing import (
    CYAN,
    contact_sheet,
    data_uri,
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
from segswap.images import encode_jpeg
from segswap.pairs.shards import PairSet, Sample
from segswap.report.document import html_document

_SIDE = 192
"""Height of a gallery's pictures in pixels: 64 pairs stay below 8 MB."""

_QUALITY = 80
_LINES = 12

_TITLES = {"a.jpg": "source", "b.jpg": "target", "as.jpg": "source, restyled", "bs.jpg": "target, restyled"}


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
    facts["rejected draws"] = _counted(Counter(record["rejected"]))
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


def _figure(title: str, picture: np.ndarray) -> str:
    uri = data_uri(encode_jpeg(picture, _QUALITY), "image/jpeg")
    height, width = picture.shape[:2]
    return (
        f'<figure><img src="{uri}" width="{width}" height="{height}" alt="{escape(title)}" loading="lazy">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
    )


def _article(sample: Sample) -> str:
    figures = "".join(_figure(title, picture) for title, picture in sample_pictures(sample, _SIDE).items())
    return (
        f'<article id="{escape(sample.key)}"><h2>{escape(sample.key)}</h2>'
        f'<div class="strip">{figures}</div>{_fact_list(describe_sample(sample))}</article>'
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
        "<p>Source photo, target with the source's object blended in, both restyled, and the labels: masks and "
        "correspondences of masked cells.</p>",
        _fact_list({**describe_set(content), "shown here": f"{len(shown):,}, spread evenly over the set"}),
        named,
        "</header>",
        *(_article(pairs.sample(position)) for position in shown),
    ]
    write_text(output, html_document(title, "\n".join(body)))


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
