"""The report of a run: one HTML page with everything in it, readable offline and on a phone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from segswap.drawing import data_uri
from segswap.errors import InputError
from segswap.files import read_json, write_text
from segswap.report.document import html_document, number, table
from segswap.report.galleries import describe_set
from segswap.report.tables import HEADLINES

Files = Mapping[str, str | os.PathLike]
"""Paths by name: of a benchmark, a split or a pair set."""

_MIMES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}

_CAPTIONS = {
    "pairs": "Held-out pairs, then unrelated ones, for which nothing should light up. In colour: the masked part. "
    "Lines are green where the correspondence lies within a cell of the label, red elsewhere.",
    "brueghel": "One query of each category and its first results. Frame: green where the picture shows the detail. "
    "Boxes: the label in white; the found box in green where the IoU is above the threshold, else in red.",
    "planted": "One query of each planted object and its first results, as for Brueghel.",
    "altered": "A detail as it was, the query that was made of it, and the first picture that each method finds. "
    "Frame: green where it is the right one. Boxes: the true one in white; the found one in green where the IoU is "
    "above .3.",
    "tokyo247": "Query, best of the first ranking, best after re-ranking; green where it is the place.",
    "pitts30k": "Query, best of the first ranking, best after re-ranking; green where it is the place.",
    "own_places": "Query, best of the first ranking, best after re-ranking; green where it is the place.",
    "hard negatives": "Unrelated pictures that the model took for related most of all, early and late in stage 2. The "
    "score is the sum of both mean masks.",
    "discovery": "One labelled box of each detail, then the regions of the cluster that shows it best, found without a "
    "query; green where the IoU is above the threshold.",
    "internet": "Image with the label in green, then for each matcher the soft mask and the segmentation in orange.",
}


def _read_text(path: str | os.PathLike) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as text ({error}); remake the file") from None


def _section(anchor: str, title: str, parts: Iterable[str]) -> tuple[str, str, str]:
    """Return anchor, title and HTML of a section; the HTML is empty when all its parts are."""
    content = "\n".join(part for part in parts if part)
    html = f'<section id="{anchor}">\n<h2>{escape(title)}</h2>\n{content}\n</section>' if content else ""
    return anchor, title, html


def _folded(title: str, items: Iterable[str]) -> str:
    """Return a list that opens on demand; nothing for an empty one."""
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<details><summary>{escape(title)}</summary><ul>{lines}</ul></details>" if lines else ""


def _name(benchmark: str) -> str:
    return HEADLINES[benchmark][0] if benchmark in HEADLINES else benchmark


def _curves(history: str | os.PathLike | None) -> list[str]:
    if not history:
        return []
    text = _read_text(history)
    start = text.find("<svg")
    if start < 0:
        raise InputError(f"{history}: no SVG picture; remake the training curves")
    # Within HTML an SVG has neither an XML declaration nor a document type.
    return [f'<div class="wide">{text[start:]}</div>']


def _link(path: str | os.PathLike, page: Path, text: str) -> str:
    """Return a link to a file by its path relative to the page."""
    target = Path(os.path.relpath(Path(path).resolve(), page.resolve().parent)).as_posix()
    return f'<a href="{escape(quote(target))}">{escape(text)}</a>'


def _pictures(pictures: Files, clusters: str | os.PathLike | None, page: Path) -> list[str]:
    parts = []
    for benchmark, path in pictures.items():
        suffix = Path(path).suffix.lower()
        if suffix not in _MIMES:
            raise InputError(f"{path}: a picture of suffix {suffix!r}; expected one of {', '.join(_MIMES)}")
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"{path}: picture not readable ({error.strerror}); remake it") from None
        name = _name(benchmark)
        parts.append(
            f"<h3>{escape(name)}</h3>\n<figure>"
            f'<img src="{data_uri(data, _MIMES[suffix])}" alt="{escape(f"Examples: {name}")}" loading="lazy">'
            f"<figcaption>{escape(_CAPTIONS.get(benchmark, ''))}</figcaption></figure>"
        )
    if clusters:
        parts.append(
            f"<p>{_link(clusters, page, 'All clusters of discovery, with their pairs and correspondences')}</p>"
        )
    return parts


def _objects_row(name: str, facts: Mapping[str, Any]) -> list[str]:
    counts = (
        facts["images_listed"],
        len(facts["images_missing"]),
        facts["annotations_listed"],
        len(facts["annotations_broken"]),
        facts["crowds"],
        facts["objects"],
        len(facts["objects_per_category"]),
    )
    return [name, *map(number, counts)]


def _source_name(split: str, place: int, facts: Mapping[str, Any]) -> str:
    read = ", ".join(facts[key] for key in ("annotations", "labels", "names", "images") if key in facts)
    return f"{split}, source {place}: {facts['source']} of {read}"


def _broken_annotation(entry: Mapping[str, Any]) -> str:
    source = f"source {entry['source']}, " if "source" in entry else ""
    return f"{source}annotation {entry['annotation_id']}: {entry['reason']}"


def _objects(objects: Files) -> list[str]:
    """Return the sections of the object tables: counts, what was left out, everything broken by name."""
    if not objects:
        return []
    found = {split: read_json(path) for split, path in objects.items()}
    head = ["split", "images", "missing", "annotations", "broken", "crowds", "objects", "categories"]
    rows = []
    for split, facts in found.items():
        rows.append(_objects_row(split, facts))
        for place, own in enumerate(facts.get("sources", []), 1):
            rows.append(_objects_row(_source_name(split, place, own), own))
    parts = ["<h3>Objects</h3>", table(head, rows)]
    for split, facts in found.items():
        counts = sorted(facts["objects_per_category"].items(), key=lambda item: (-item[1], item[0]))
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(facts["left_out"].items()))
        copies = (f"{entry['photo']} is {entry['same_as']}" for entry in facts.get("photos_left_out", []))
        parts += [
            f"<p>{escape(split)}, left out: {escape(left_out)}.</p>" if left_out else "",
            _folded(f"{split}: objects per category", (f"{name}: {count:,}" for name, count in counts)),
            _folded(
                f"{split}: objects by their share of the photo",
                (f"{share}: {count:,}" for share, count in facts["objects_by_area_share"].items()),
            ),
            _folded(f"{split}: categories without objects", facts["categories_without_objects"]),
            _folded(f"{split}: missing images", facts["images_missing"]),
            _folded(f"{split}: photos that EXIF turns", facts.get("images_turned", [])),
            _folded(f"{split}: photos of an earlier source, or held out", copies),
            _folded(f"{split}: broken annotations", map(_broken_annotation, facts["annotations_broken"])),
        ]
    return parts


def _pair_sets(pair_sets: Files, galleries: Files, page: Path) -> list[str]:
    """Return the sections of the pair sets: numbers, rejections, unreadable photos by name, links to galleries."""
    parts = ["<h3>Pairs</h3>"] if pair_sets or galleries else []
    if pair_sets:
        contents = {name: read_json(path) for name, path in pair_sets.items()}
        facts = {name: describe_set(content) for name, content in contents.items()}
        head = list(dict.fromkeys(title for own in facts.values() for title in own))
        parts.append(table(["set", *head], ([name, *(own.get(t, "") for t in head)] for name, own in facts.items())))
        parts += [
            _folded(f"{name}: unreadable photos", content["unreadable_photos"]) for name, content in contents.items()
        ]
    if galleries:
        links = (f"<li>{_link(path, page, name)}</li>" for name, path in galleries.items())
        parts.append(f"<p>Galleries:</p><ul>{''.join(links)}</ul>")
    return parts


def write_page(
    output: str | os.PathLike,
    title: str,
    *,
    summary: str | os.PathLike | None = None,
    history: str | os.PathLike | None = None,
    pictures: Files | None = None,
    objects: Files | None = None,
    pair_sets: Files | None = None,
    galleries: Files | None = None,
    clusters: str | os.PathLike | None = None,
    provenance: str | os.PathLike | None = None,
    introduction: str = "",
) -> None:
    """Write the report of a run as one self-contained HTML page; what is not given is left out.

    Args:
        output: the page.
        title: plain text.
        summary: HTML of ``tables.write_summary``; taken in as it is.
        history: SVG of ``plots.plot_history``; taken in as it is.
        pictures: JPEG or PNG, by benchmark; embedded.
        objects: problems JSON of an object table (``pairs.objects``, or ``pairs.sources.join_tables``), by split.
        pair_sets: ``manifest.json`` of a pair set, by name.
        galleries: HTML pages, by name; linked by their path relative to the page.
        clusters: page of the clusters that discovery found; linked.
        provenance: HTML of ``provenance.write_provenance``; taken in as it is.
        introduction: plain text under the title.

    Raises:
        InputError: naming the file that is missing or of another form.
    """
    output = Path(output)
    try:
        data = [*_objects(objects or {}), *_pair_sets(pair_sets or {}, galleries or {}, output)]
    except KeyError as error:
        raise InputError(
            f"report data: a JSON file of {list((objects or {}).values()) + list((pair_sets or {}).values())} "
            f"has no {error}; remake the object tables and pair sets"
        ) from None
    sections = [
        _section("results", "Results", [_read_text(summary)] if summary else []),
        _section("training", "Training", _curves(history)),
        _section("pictures", "Pictures", _pictures(pictures or {}, clusters, output)),
        _section("data", "Data", data),
        _section("provenance", "Provenance", [_read_text(provenance)] if provenance else []),
    ]
    present = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for anchor, name, _ in present)
    header = f"<header><h1>{escape(title)}</h1>"
    header += f"<p>{escape(introduction)}</p>" if introduction else ""
    header += f"<nav><ul>{links}</ul></nav></header>"
    write_text(output, html_document(title, "\n".join([header, *(html for _, _, html in present)])))
