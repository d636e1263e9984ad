"""Several sources of objects become one table: annotated photos and photos without annotation, side by side.

Each source has a table of its own (``objects``, ``yolo``, ``segments``). The joined table has their rows and numbers of
its own: annotation 1 of ``1.jpg`` in one source has nothing to do with annotation 1 of ``1.jpg`` in another.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segswap.errors import InputError
from segswap.files import read_json_object, sha256, whole_file, write_json
from segswap.names import from_text
from segswap.pairs.objects import SCHEMA, describe_objects, read_object_rows
from segswap.progress import progress


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of objects, as the configuration describes it.

    Attributes:
        source: ``annotations``, ``yolo`` or ``segments``.
        images: folder of its photos.
        annotations: COCO annotation file, of ``annotations``.
        labels: folder of the label files, of ``yolo``.
        names: file of the names of their classes, of ``yolo``.
    """

    source: str
    images: str
    annotations: str | None = None
    labels: str | None = None
    names: str | None = None


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out objects: their table, and the folders of its photos as ``photo_path`` takes them."""

    table: str | os.PathLike
    folders: Sequence[str | os.PathLike]


def photo_path(folders: Sequence[str | os.PathLike], name: str) -> Path:
    """Return where the photo with a table's file name lies.

    Args:
        folders: of the photos of the table. A joined table has those of its sources, in order; names then begin with
            the number of the source: ``2/cat.jpg`` is ``cat.jpg`` in the second folder.
        name: in the table.

    Raises:
        InputError: when the name begins with no number of a folder.
    """
    if len(folders) == 1:
        return Path(folders[0], from_text(name))
    number, _, own_name = name.partition("/")
    if not number.isdecimal() or not 1 <= int(number) <= len(folders):
        raise InputError(
            f"{name}: expected the number of one of {len(folders)} folders of photos in front; give the folders of all "
            "sources of the object table, in order, or the only one"
        )
    return Path(folders[int(number) - 1], from_text(own_name))


def copies(groups: Sequence[Sequence[Path]]) -> list[dict[Path, Path]]:
    """Return for each group which of its files an earlier group has byte for byte, with the first such file.

    Only files whose size occurs in several groups are read.
    """
    of_size: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for number, group in enumerate(groups):
        for path in group:
            of_size[path.stat().st_size].append((number, path))
    alike = [file for files in of_size.values() if files[0][0] != files[-1][0] for file in files]
    first: dict[str, tuple[int, Path]] = {}
    found: list[dict[Path, Path]] = [{} for _ in groups]
    for number, path in progress(alike, "photos compared"):
        origin, original = first.setdefault(sha256(path), (number, path))
        if origin < number:
            found[number][path] = original
    return found


def join_tables(
    sources: Sequence[Source],
    tables: Sequence[str | os.PathLike],
    counts: Sequence[str | os.PathLike],
    table: str | os.PathLike,
    problems: str | os.PathLike,
    heldout: HeldOut | None = None,
) -> None:
    """Write the object table (Parquet) of several sources, and what was left out of it (JSON).

    Rows keep the order of the sources and of their tables; photos and annotations are numbered in it, from 1.
    Categories of one name are one category, but each region that was found without annotation stays one of its own.
    A photo with the bytes of a held-out one, or of one of an earlier source, is left out and named.

    Args:
        sources: in order.
        tables, counts: of each source its object table, and what that has left out (JSON).
        heldout: objects whose photos must not be among the joined ones.

    Raises:
        InputError: when a table or a JSON file is not readable, or no photo of a source is left.
    """
    facts = [read_json_object(path) for path in counts]
    read = [read_object_rows(path) for path in tables]
    photos = [_photos(rows, [source.images]) for source, rows in zip(sources, read, strict=True)]
    held = _photos(read_object_rows(heldout.table), heldout.folders) if heldout else []
    parts: list[pa.Table] = []
    said: list[dict[str, Any]] = []
    for number, others in enumerate(copies([held, *photos])[1:]):
        source, rows = sources[number], read[number]
        names = rows.column("file_name").to_pylist()
        kept = rows.filter([photo_path([source.images], name) not in others for name in names])
        if not len(kept):
            photo, same = next(iter(others.items()))
            raise InputError(
                f"{source.images}: every photo of this source is held out or in an earlier source (the first, {photo}, "
                f"is {same}); remove the source"
            )
        said.append(_facts(source, facts[number], kept, len(rows) - len(kept), others))
        if len(sources) > 1:
            kept = _with(kept, file_name=[f"{number + 1}/{name}" for name in kept.column("file_name").to_pylist()])
        parts.append(kept)
    joined = _numbered(sources, parts)
    with whole_file(table) as temporary:
        pq.write_table(joined, temporary, compression="zstd")
    write_json(problems, {**_sums(said), **_described(joined, _categories(said)), "sources": said})


def _photos(rows: pa.Table, folders: Sequence[str | os.PathLike]) -> list[Path]:
    """Return where the photos of a table lie, each once, in the order of its rows."""
    return [photo_path(folders, name) for name in rows.column("file_name").unique().to_pylist()]


def _with(rows: pa.Table, **columns: Sequence[Any]) -> pa.Table:
    """Return a table with other values in some columns."""
    for name, values in columns.items():
        field = SCHEMA.field(name)
        rows = rows.set_column(SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    return rows


def _numbered(sources: Sequence[Source], parts: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all parts, one for each source, with photos, annotations and categories numbered from 1."""
    rows = pa.concat_tables(parts)
    part = np.repeat(np.arange(len(parts)), [len(own) for own in parts])
    photo = rows.column("image_id").to_numpy()
    begins = np.append(True, (np.diff(part) != 0) | (np.diff(photo) != 0))
    categories: list[Hashable] = []
    for number, (source, own) in enumerate(zip(sources, parts, strict=True)):
        regions = [(number, region) for region in own.column("category_id").to_pylist()]
        categories += regions if source.source == "segments" else own.column("category").to_pylist()
    number_of = {category: number for number, category in enumerate(dict.fromkeys(categories), 1)}
    return _with(
        rows,
        image_id=np.cumsum(begins),
        annotation_id=np.arange(1, len(rows) + 1),
        category_id=[number_of[category] for category in categories],
    )


# What is said of the joined table


def _facts(
    source: Source, facts: dict[str, Any], kept: pa.Table, dropped: int, others: dict[Path, Path]
) -> dict[str, Any]:
    """Return the numbers of a source in the joined table: those of its own table, but for photos that were left out.

    Args:
        facts: of its own table.
        kept: its rows in the joined table. dropped: how many are not.
        others: photos that were left out, with the files that they are equal to.
    """
    left_out = Counter(facts["left_out"]) + Counter({"photo held out or in an earlier source": dropped})
    return {
        **{key: value for key, value in dataclasses.asdict(source).items() if value is not None},
        **facts,
        "left_out": dict(left_out),
        "photos_left_out": [{"photo": str(photo), "same_as": str(same)} for photo, same in others.items()],
        **_described(kept, _categories([facts])),
    }


def _sums(sources: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the sources say together; what is named is named with the number of its source."""
    numbered = list(enumerate(sources, 1))
    return {
        "images_listed": sum(own["images_listed"] for own in sources),
        "images_missing": [f"source {n}: {photo}" for n, own in numbered for photo in own["images_missing"]],
        # Tables that were made before they named turned photos stay as they are.
        "images_turned": [f"source {n}: {photo}" for n, own in numbered for photo in own.get("images_turned", [])],
        "photos_left_out": [entry for own in sources for entry in own["photos_left_out"]],
        "annotations_listed": sum(own["annotations_listed"] for own in sources),
        "annotations_broken": [{"source": n, **entry} for n, own in numbered for entry in own["annotations_broken"]],
        "left_out": dict(sum((Counter(own["left_out"]) for own in sources), Counter())),
    }


def _categories(sources: Sequence[dict[str, Any]]) -> set[str]:
    """Return the names of all categories of sources, with objects or without."""
    return {name for own in sources for name in (*own["objects_per_category"], *own["categories_without_objects"])}


def _described(rows: pa.Table, categories: set[str]) -> dict[str, Any]:
    """Return the numbers of a table's objects, and which of the categories have none."""
    described = describe_objects(rows.select(["category", "area", "width", "height", "iscrowd"]).to_pylist())
    return {
        "crowds": rows.column("iscrowd").to_pylist().count(True),
        **described,
        "categories_without_objects": sorted(categories - set(described["objects_per_category"])),
    }
