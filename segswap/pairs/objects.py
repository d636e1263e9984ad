"""The object table: one row per object that can be cut out, whatever found it (``coco``, ``yolo``, ``segments``).

Everything behind the table is the same code for every source of segments. Format: docs/formats.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pycocotools import mask as coco_mask

from segswap.errors import InputError
from segswap.files import whole_file, write_json
from segswap.geometry import mask_box
from segswap.images import UnreadableImage, image_size
from segswap.progress import progress

SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("annotation_id", pa.int64()),
        ("category_id", pa.int64()),
        ("category", pa.string()),
        ("area", pa.float64()),
        ("bbox", pa.list_(pa.float64(), 4)),
        ("segmentation", pa.string()),
        ("iscrowd", pa.bool_()),
        ("touches_border", pa.bool_()),
    ]
)
"""Columns of the table. ``area`` is the decoded mask's, in pixels; ``bbox`` is (x, y, width, height) in pixels;
``segmentation`` is COCO's own, as JSON: a list of polygons or a run-length encoding."""


AREA_SHARES = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
"""Bounds of the sizes, as shares of the photo, by which objects are counted."""


@dataclasses.dataclass(frozen=True)
class ObjectSettings:
    """Which annotations become objects.

    Attributes:
        min_area_share, max_area_share: bounds of the mask's share of the image area.
        max_bad_share: largest share of missing images, or of broken annotations, that is skipped and named
            instead of fatal.
    """

    min_area_share: float
    max_area_share: float
    max_bad_share: float


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode a COCO segmentation to a mask, uint8 (height, width) of 0 and 1; polygon parts are joined.

    Raises:
        ValueError: when it is neither polygons of at least three points nor a run-length encoding of this
            size, or when no pixel is set.
    """
    if isinstance(segmentation, list):
        if not segmentation or any(len(part) < 6 or len(part) % 2 for part in segmentation):
            raise ValueError("polygon parts need at least three (x, y) points")
        encoded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation, dict) and "counts" in segmentation and "size" in segmentation:
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"run-length encoding of size {segmentation['size']}, image of {[height, width]}")
        counts = segmentation["counts"]
        if isinstance(counts, list) and sum(counts) != height * width:
            raise ValueError(f"run lengths sum to {sum(counts)}, not to {height * width}")
        encoded = coco_mask.frPyObjects(segmentation, height, width) if isinstance(counts, list) else segmentation
    else:
        raise ValueError("segmentation is neither a list of polygons nor a run-length encoding")
    mask = coco_mask.decode(encoded)
    if not mask.any():
        raise ValueError("mask has no pixel")
    return mask


def mask_columns(mask: np.ndarray) -> dict[str, Any]:
    """Return what the table says of a mask, (H, W) with at least one pixel set: area, bbox, touches_border."""
    x1, y1, x2, y2 = mask_box(mask)
    return {
        "area": float(np.count_nonzero(mask)),
        "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
        "touches_border": bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()),
    }


def describe_objects(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the numbers of usable objects: all, by category, and by their share of the photo."""
    usable = [row for row in rows if not row["iscrowd"]]
    sizes = np.histogram([row["area"] / (row["width"] * row["height"]) for row in usable], AREA_SHARES)[0]
    counted = zip(itertools.pairwise(AREA_SHARES), sizes, strict=True)
    return {
        "objects": len(usable),
        "objects_per_category": dict(Counter(row["category"] for row in usable)),
        "objects_by_area_share": {f"{low:g} to {high:g}": int(count) for (low, high), count in counted},
    }


def write_object_rows(rows: list[dict[str, Any]], table: str | os.PathLike) -> None:
    """Write rows as an object table (Parquet), sorted by image and annotation.

    In a table an annotation id is a number, of one row of its image. Where ids repeat in an image, or are text, those
    of all rows are replaced by 1, 2, ... in this order.
    """
    rows = sorted(rows, key=lambda row: (row["image_id"], row["annotation_id"]))
    ids = {(row["image_id"], row["annotation_id"]) for row in rows}
    if len(ids) < len(rows) or any(isinstance(number, str) for _, number in ids):
        rows = [{**row, "annotation_id": number} for number, row in enumerate(rows, 1)]
    with whole_file(table) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary, compression="zstd")


def read_object_rows(path: str | os.PathLike) -> pa.Table:
    """Read the rows of an object table; columns as in ``SCHEMA``.

    Raises:
        InputError: when the file is missing or has other columns.
    """
    try:
        table = pq.read_table(path)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: not a readable object table ({error}); remake it") from None
    if table.schema.names != SCHEMA.names:
        raise InputError(f"{path}: columns {table.schema.names}, expected {SCHEMA.names}; remake the table")
    return table


@dataclasses.dataclass(frozen=True)
class AnnotatedPhoto:
    """A photo as annotations describe it: its file's name in the folder, width and height in pixels."""

    name: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Annotations:
    """Annotated photos, whatever format they were read from.

    Attributes:
        origin: the file or folder that they were read from, for messages.
        photos: by image id.
        categories: names by category id.
        entries: of objects, as in COCO: ``id``, ``image_id``, ``category_id``, ``segmentation``, of crowds ``iscrowd``.
        broken: what is in the place of an entry and is none: its ``annotation_id`` and the ``reason``.
    """

    origin: str
    photos: Mapping[Any, AnnotatedPhoto]
    categories: Mapping[Any, str]
    entries: Sequence[dict[str, Any]]
    broken: Sequence[dict[str, Any]] = ()


def write_annotated_objects(
    annotations: Annotations,
    images: str | os.PathLike,
    table: str | os.PathLike,
    problems: str | os.PathLike,
    settings: ObjectSettings,
) -> None:
    """Write the object table (Parquet) of annotated photos in a folder, and what was left out (JSON).

    An annotation has a row if its mask decodes, its photo is there and has the annotated size, and its area share lies
    within the bounds. Crowds keep a row (``iscrowd``) but are never sampled. What is left out is counted by reason in
    ``problems``, and missing or unreadable photos and broken annotations are named there.

    Raises:
        InputError: when more than ``max_bad_share`` of the photos or annotations are bad, or when no object is left.
    """
    origin, photos, entries = annotations.origin, annotations.photos, annotations.entries
    sizes: dict[str, tuple[int, int]] = {}
    unreadable: dict[str, str] = {}
    for photo in progress(photos.values(), "photos looked for"):
        path = Path(images) / photo.name
        if path.is_file():
            try:
                sizes[photo.name] = image_size(path)
            except UnreadableImage as error:
                unreadable[photo.name] = str(error).removeprefix(f"{Path(images)}{os.sep}")
    missing = [unreadable.get(name, name) for name in sorted(p.name for p in photos.values()) if name not in sizes]
    if len(missing) > settings.max_bad_share * len(photos):
        raise InputError(
            f"{images}: {len(missing)} of the {len(photos)} images listed in {origin} are missing or do not open "
            f"(first: {missing[0]}); get them, or raise objects.max_bad_share ({settings.max_bad_share})"
        )

    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    broken = list(annotations.broken)
    listed = len(entries) + len(broken)
    for entry in progress(entries, "objects"):
        try:
            photo = photos[entry["image_id"]]
            category = annotations.categories[entry["category_id"]]
            _check_size(photo, sizes.get(photo.name))
            mask = decode_segmentation(entry["segmentation"], photo.height, photo.width)
        except KeyError as error:
            broken.append({"annotation_id": entry.get("id"), "reason": f"unknown or absent {error}"})
            continue
        except (ValueError, TypeError) as error:
            broken.append({"annotation_id": entry.get("id"), "reason": str(error)})
            continue
        if photo.name not in sizes:
            left_out["image unreadable" if photo.name in unreadable else "image missing"] += 1
            continue
        iscrowd = bool(entry.get("iscrowd", 0))
        area = int(mask.sum())
        share = area / (photo.width * photo.height)
        if not iscrowd and not settings.min_area_share <= share <= settings.max_area_share:
            left_out["too small" if share < settings.min_area_share else "too large"] += 1
            continue
        rows.append(
            {
                "image_id": entry["image_id"],
                "file_name": photo.name,
                "width": photo.width,
                "height": photo.height,
                "annotation_id": entry["id"],
                "category_id": entry["category_id"],
                "category": category,
                "segmentation": json.dumps(entry["segmentation"]),
                "iscrowd": iscrowd,
                **mask_columns(mask),
            }
        )
    if len(broken) > settings.max_bad_share * listed:
        raise InputError(
            f"{origin}: {len(broken)} of {listed} annotations are broken (first: {broken[0]}); "
            f"repair them, or raise objects.max_bad_share ({settings.max_bad_share})"
        )
    if all(row["iscrowd"] for row in rows):
        raise InputError(
            f"{origin}: no usable object among {listed} annotations (left out: {dict(left_out)}); "
            "check the image folder and objects.min_area_share and max_area_share"
        )
    write_object_rows(rows, table)
    described = describe_objects(rows)
    write_json(
        problems,
        {
            "images_listed": len(photos),
            "images_missing": missing,
            "annotations_listed": listed,
            "annotations_broken": broken,
            "left_out": dict(left_out),
            "crowds": sum(row["iscrowd"] for row in rows),
            **described,
            "categories_without_objects": sorted(
                set(annotations.categories.values()) - set(described["objects_per_category"])
            ),
        },
    )


def _check_size(photo: AnnotatedPhoto, found: tuple[int, int] | None) -> None:
    """Raise a ``ValueError`` where a photo's (width, height) is found and not the annotated one: no mask would fit."""
    annotated = photo.width, photo.height
    if found is None or found == annotated:
        return
    turned = " (width and height exchanged, as of a photo whose EXIF rotation was not followed)"
    raise ValueError(
        f"{photo.name} has {found[0]} x {found[1]} pixels, annotated are {annotated[0]} x {annotated[1]}"
        f"{turned if found == annotated[::-1] else ''}"
    )


class ObjectTable:
    """The object table in memory, indexed for sampling: columns as arrays, crowds apart.

    Attributes:
        image_ids: distinct image ids with at least one row, ascending, int64 (n_images,).
        categories: category ids with at least one usable object, ascending, int64 (n_categories,).
    """

    def __init__(self, table: pa.Table) -> None:
        self._segmentation = table.column("segmentation")
        self._file_name = table.column("file_name")
        columns = table.drop_columns(["segmentation", "file_name", "category", "bbox"])
        self._columns = {name: columns.column(name).to_numpy() for name in columns.column_names}
        image_id = self._columns["image_id"]
        self.image_ids, first, counts = np.unique(image_id, return_index=True, return_counts=True)
        # Rows are sorted by image, so an image's rows are one slice.
        self._slices = {int(i): (int(s), int(s + n)) for i, s, n in zip(self.image_ids, first, counts, strict=True)}
        usable = np.flatnonzero(~self._columns["iscrowd"])
        category = self._columns["category_id"][usable]
        self.categories, first = np.unique(np.sort(category), return_index=True)
        by_category = np.split(usable[np.argsort(category, kind="stable")], first[1:])
        self._rows_of_category = dict(zip(self.categories.tolist(), by_category, strict=True))

    @classmethod
    def read(cls, path: str | os.PathLike) -> ObjectTable:
        """Read a table; see ``read_object_rows``."""
        return cls(read_object_rows(path))

    def categories_in(self, image_id: int) -> np.ndarray:
        """Return the category ids present in an image, crowds included."""
        return np.unique(self._columns["category_id"][slice(*self._slices[image_id])])

    def categories_absent_from(self, image_id: int) -> np.ndarray:
        """Return the category ids with usable objects, none of which is present in an image."""
        present = self.categories_in(image_id)
        # By place: there may be as many categories as objects.
        places = np.searchsorted(self.categories, present)
        return np.delete(self.categories, places[np.take(self.categories, places, mode="clip") == present])

    def objects_in(self, image_id: int) -> np.ndarray:
        """Return the rows of an image's usable objects."""
        start, stop = self._slices[image_id]
        return start + np.flatnonzero(~self._columns["iscrowd"][start:stop])

    def objects_of(self, category_id: int) -> np.ndarray:
        """Return the rows of a category's usable objects."""
        return self._rows_of_category[category_id]

    def category_of(self, row: int) -> int:
        """Return a row's category id."""
        return int(self._columns["category_id"][row])

    def image_of(self, row: int) -> int:
        """Return a row's image id."""
        return int(self._columns["image_id"][row])

    def annotation_of(self, row: int) -> int:
        """Return a row's annotation id."""
        return int(self._columns["annotation_id"][row])

    def row_of(self, image_id: int, annotation_id: int) -> int:
        """Return the row of an annotation of an image (KeyError when it is not in the table).

        The id alone would not do: there are annotation files that number those of each image from 1.
        """
        start, stop = self._slices[image_id]
        (found,) = np.nonzero(self._columns["annotation_id"][start:stop] == annotation_id)
        if not len(found):
            raise KeyError(annotation_id)
        return start + int(found[0])

    def file_name(self, image_id: int) -> str:
        """Return an image's file name."""
        return self._file_name[self._slices[image_id][0]].as_py()

    def image_shape(self, image_id: int) -> tuple[int, int]:
        """Return an image's (height, width) as annotated."""
        row = self._slices[image_id][0]
        return int(self._columns["height"][row]), int(self._columns["width"][row])

    def mask(self, row: int) -> np.ndarray:
        """Decode a row's mask at its image's own size, uint8 (H, W) of 0 and 1."""
        height, width = int(self._columns["height"][row]), int(self._columns["width"][row])
        return decode_segmentation(json.loads(self._segmentation[row].as_py()), height, width)
