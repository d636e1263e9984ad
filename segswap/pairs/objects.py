"""The object table: one row per object that can be cut out, whatever found it (``coco``, ``yolo``, ``segments``).

Everything behind the table is the same code for every source of segments. Photos are always looked at as their EXIF
data say, so sizes and masks of the table are those of the photo as it is shown, whatever frame the annotations were
drawn in. Format: docs/formats.md.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segswap.errors import InputError
from segswap.files import whole_file
from segswap.geometry import mask_box
from segswap.images import Header
from segswap.names import as_text
from segswap.pairs.annotation_masks import decode_segmentation

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
``segmentation`` is COCO's own, as JSON: a list of polygons or a run-length encoding. All of them are of the photo as it
is shown."""

AREA_SHARES = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
"""Bounds of the sizes, as shares of the photo, by which objects are counted."""


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

    In a table an annotation id is a number, of one row of its image. Where ids repeat in an image, or are no numbers of
    64 bits, those of all rows are replaced by 1, 2, ... in this order.
    """
    rows = sorted(rows, key=lambda row: (row["image_id"], _order(row["annotation_id"])))
    numbered = [row for row in rows if fits_table(row["annotation_id"])]
    if len({(row["image_id"], row["annotation_id"]) for row in numbered}) < len(rows):
        rows = [{**row, "annotation_id": number} for number, row in enumerate(rows, 1)]
    rows = [{**row, "file_name": as_text(row["file_name"])} for row in rows]
    with whole_file(table) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary, compression="zstd")


def fits_table(value: Any) -> bool:
    """Return whether an id can stand in a table as it is."""
    return type(value) is int and -(2**63) <= value < 2**63


def _order(value: Any) -> tuple[int, float, str]:
    """Return where an id stands among others: numbers, then text, then anything else in its own order."""
    if type(value) in (int, float) and value == value:
        return 0, value, ""
    return (1, 0, value) if isinstance(value, str) else (2, 0, "")


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


def turned_photos(headers: Mapping[str, Header]) -> list[str]:
    """Return which of the photos, by name, an EXIF orientation turns or mirrors, in words."""
    marks = ((name, header.orientation) for name, header in sorted(headers.items()))
    return [f"{name}: EXIF orientation {orientation}" for name, orientation in marks if orientation != 1]


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
