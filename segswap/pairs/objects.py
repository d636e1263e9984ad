"""The object table: one row per object that can be cut out, whatever found it (``coco``, ``yolo``, ``segments``).

Everything behind the table is the same code for every source of segments. Photos are always looked at as their EXIF
data say, so sizes and masks of the table are those of the photo as it is shown, whatever frame the annotations were
drawn in. Annotations come from anywhere: nothing in them is taken as right before it was looked at. Format:
docs/formats.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import reprlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pycocotools import mask as coco_mask

from segswap.errors import InputError
from segswap.files import whole_file, write_json
from segswap.geometry import mask_box
from segswap.images import Header, UnreadableImage, read_header, turn
from segswap.names import as_text
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
``segmentation`` is COCO's own, as JSON: a list of polygons or a run-length encoding. All of them are of the photo as it
is shown."""

FRAMES = ("stored", "shown")
"""How a photo lay while its annotations were drawn: as its pixels are stored, as COCO's tools read them, or as its EXIF
orientation says that it is looked at."""

MAX_OUTLINE = 2_000_000
"""Longest outline in pixels, and how far from the photo's corner it may reach: rasterising takes 50 bytes a pixel."""

AREA_SHARES = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
"""Bounds of the sizes, as shares of the photo, by which objects are counted."""


@dataclasses.dataclass(frozen=True)
class ObjectSettings:
    """Which annotations become objects.

    Attributes:
        min_area_share, max_area_share: bounds of the mask's share of the image area.
        max_bad_share: largest share of missing images, or of broken annotations, that is skipped and named
            instead of fatal.
        frame: of ``FRAMES``; None: as the format has it, COCO ``stored`` and YOLO ``shown``.
    """

    min_area_share: float
    max_area_share: float
    max_bad_share: float
    frame: str | None = None

    def __post_init__(self) -> None:
        if self.frame not in (None, *FRAMES):
            raise InputError(f"frame: {self.frame!r}; expected one of {', '.join(FRAMES)}")


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode a COCO segmentation to a mask, uint8 (height, width) of 0 and 1.

    Polygon parts are joined; what of them lies outside the photo is cut off.

    Raises:
        ValueError: when it is neither polygons of at least three points nor a run-length encoding of this
            size, or when no pixel is set.
    """
    if isinstance(segmentation, list):
        mask = _decode_polygons(segmentation, height, width)
    elif isinstance(segmentation, dict) and "counts" in segmentation and "size" in segmentation:
        if segmentation["size"] != [height, width]:
            size = reprlib.repr(segmentation["size"])
            raise ValueError(f"run-length encoding of size {size}, image of {[height, width]}")
        mask = _decode_run_lengths(segmentation["counts"], height, width)
    else:
        raise ValueError("segmentation is neither a list of polygons nor a run-length encoding")
    if not mask.any():
        raise ValueError("mask has no pixel")
    return mask


def encode_segmentation(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask, uint8 (H, W) of 0 and 1, as COCO's compressed run lengths, in the form that JSON can hold."""
    encoded = coco_mask.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def _decode_polygons(parts: list[Any], height: int, width: int) -> np.ndarray:
    """Return the mask of joined polygons: the rasterising is pycocotools', which does not look at what it is given."""
    if not parts or not all(isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 for part in parts):
        raise ValueError("polygon parts need at least three (x, y) points")
    length = 0.0
    for part in parts:
        if not set(map(type, part)) <= {int, float}:
            raise ValueError("polygon parts need numbers")
        try:
            points = np.array(part, float).reshape(-1, 2)
        except OverflowError:
            raise ValueError("coordinate beyond any number of 64 bits") from None
        far = points[~(np.abs(points) <= MAX_OUTLINE)]  # with NaN, which compares to nothing
        if len(far):
            raise ValueError(f"coordinate {far[0]:g} is no place in or near a photo of {width} x {height} pixels")
        length += float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
    if length > MAX_OUTLINE:
        raise ValueError(f"an outline of {length:.0f} pixels; expected {MAX_OUTLINE} at most")
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, height, width)))


def _decode_run_lengths(counts: Any, height: int, width: int) -> np.ndarray:
    """Return the mask of run lengths, a list of numbers or COCO's text; runs go down the columns, zeros first.

    pycocotools sets pixels as the lengths say: beyond the mask, or not all of it, where they do not fill it exactly.
    """
    lengths = _uncompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not set(map(type, lengths)) <= {int}:
        raise ValueError("run lengths are neither text nor a list of whole numbers")
    if min(lengths, default=0) < 0:
        raise ValueError(f"run length {reprlib.repr(min(lengths))}; expected none below 0")
    if sum(lengths) != height * width:
        raise ValueError(f"run lengths sum to {reprlib.repr(sum(lengths))}, not to {height * width}")
    runs = np.resize(np.array([0, 1], np.uint8), len(lengths))
    return np.repeat(runs, lengths).reshape(width, height).T


def _uncompressed(text: str) -> list[int]:
    """Return the run lengths that COCO's text stands for.

    A number is five bits a character from the lowest on, the sixth says that more follow, and the highest bit of the
    last is the sign. From the fourth number on each is the difference to the last but one.

    Raises:
        ValueError: for another text.
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63:
        raise ValueError("run lengths with characters that COCO's encoding does not have")
    last = codes < 32
    if not last[-1]:
        raise ValueError("run lengths that end within a number")
    starts = np.flatnonzero(np.append(True, last[:-1]))
    digits = np.diff(np.append(starts, len(codes)))
    if digits.max() > 7:
        raise ValueError("a run length of more than 32 bits")
    place = np.arange(len(codes)) - np.repeat(starts, digits)
    numbers = np.add.reduceat((codes & 31) << 5 * place, starts)
    numbers -= ((codes[last] & 16) != 0) * (np.int64(1) << 5 * digits)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers.tolist()


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
    numbered = [row for row in rows if _fits_table(row["annotation_id"])]
    if len({(row["image_id"], row["annotation_id"]) for row in numbered}) < len(rows):
        rows = [{**row, "annotation_id": number} for number, row in enumerate(rows, 1)]
    rows = [{**row, "file_name": as_text(row["file_name"])} for row in rows]
    with whole_file(table) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary, compression="zstd")


def _fits_table(value: Any) -> bool:
    """Return whether an id can stand in a table as it is."""
    return type(value) is int and -(2**63) <= value < 2**63


def _order(value: Any) -> tuple[int, float, str]:
    """Return where an id stands among others: numbers, then text, then anything else in its own order."""
    if type(value) in (int, float) and value == value:
        return 0, value, ""
    return (1, 0, value) if isinstance(value, str) else (2, 0, "")


def _numbers(ids: Iterable[Hashable]) -> dict[Hashable, int]:
    """Return the number that stands for each id in a table: itself, or where one cannot, 1, 2, ... for all."""
    ids = list(ids)
    return dict(zip(ids, ids if all(map(_fits_table, ids)) else range(1, len(ids) + 1), strict=True))


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
        frame: of ``FRAMES``, in which sizes of photos and outlines are.
        photos: by image id.
        categories: names by category id.
        entries: of objects, as in COCO: ``id``, ``image_id``, ``category_id``, ``segmentation``, of crowds ``iscrowd``.
            Nothing of them is checked.
        broken: what is in the place of an entry and is none: its ``annotation_id`` and the ``reason``.
        broken_photos: what is in the place of a photo and is none, in words.
    """

    origin: str
    frame: str
    photos: Mapping[Hashable, AnnotatedPhoto]
    categories: Mapping[Hashable, str]
    entries: Sequence[Any]
    broken: Sequence[dict[str, Any]] = ()
    broken_photos: Sequence[str] = ()


def is_id(value: Any) -> bool:
    """Return whether a value of JSON can be the id of a photo or of a category: a number or text."""
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)


def is_text(value: Any) -> bool:
    """Return whether a value of JSON is text with at least a character, and without halves of characters."""
    return isinstance(value, str) and value != "" and value == value.encode("utf-8", "replace").decode()


def write_annotated_objects(
    annotations: Annotations,
    images: str | os.PathLike,
    table: str | os.PathLike,
    problems: str | os.PathLike,
    settings: ObjectSettings,
) -> None:
    """Write the object table (Parquet) of annotated photos in a folder, and what was left out (JSON).

    An annotation has a row if its photo is there and has the annotated size, its mask decodes, and its area share lies
    within the bounds. Crowds keep a row (``iscrowd``) but are never sampled. Masks that were drawn on the stored pixels
    of a photo are turned with it, and then have run lengths in place of polygons. What is left out is counted by reason
    in ``problems``, and missing or unreadable photos, turned ones and broken annotations are named there.

    Ids that cannot be numbers of the table are numbered there; messages have them as they are.

    Raises:
        InputError: when more than ``max_bad_share`` of the photos or annotations are bad, or when no object is left.
    """
    origin, photos, entries = annotations.origin, annotations.photos, annotations.entries
    headers, unreadable = _read_headers(photos.values(), Path(images))
    missing = [
        *annotations.broken_photos,
        *(unreadable.get(name, name) for name in sorted(p.name for p in photos.values()) if name not in headers),
    ]
    listed_photos = len(photos) + len(annotations.broken_photos)
    if len(missing) > settings.max_bad_share * listed_photos:
        raise InputError(
            f"{images}: {len(missing)} of the {listed_photos} images listed in {origin} are missing or do not open "
            f"(first: {missing[0]}); get them, or raise objects.max_bad_share ({settings.max_bad_share})"
        )
    turned = turned_photos(headers)
    if turned:
        print(
            f"{len(turned)} of {len(headers)} photos are turned by EXIF (first: {turned[0]}); their annotations are "
            f"taken as drawn on the photos as {annotations.frame} (the key 'frame' of their source)",
            flush=True,
        )

    image_numbers, category_numbers = _numbers(photos), _numbers(annotations.categories)
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    broken = list(annotations.broken)
    listed = len(entries) + len(broken)
    for place, entry in enumerate(progress(entries, "objects"), 1):
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"{reprlib.repr(entry)} is no annotation; expected an object of JSON")
            image_id = _known(photos, entry, "image_id")
            category_id = _known(annotations.categories, entry, "category_id")
            iscrowd, segmentation = _is_crowd(entry), entry.get("segmentation")
            photo = photos[image_id]
            header = headers.get(photo.name)
            if header is None:
                left_out["image unreadable" if photo.name in unreadable else "image missing"] += 1
                continue
            _check_size(photo, header, annotations.frame)
            mask = decode_segmentation(segmentation, photo.height, photo.width)
        except ValueError as error:
            broken.append({"annotation_id": _name(entry, place), "reason": str(error)})
            continue
        if annotations.frame == "stored" and header.orientation != 1:
            mask = turn(mask, header.orientation)
            segmentation = encode_segmentation(mask)
        height, width = mask.shape
        share = int(mask.sum()) / (width * height)
        if not iscrowd and not settings.min_area_share <= share <= settings.max_area_share:
            left_out["too small" if share < settings.min_area_share else "too large"] += 1
            continue
        rows.append(
            {
                "image_id": image_numbers[image_id],
                "file_name": photo.name,
                "width": width,
                "height": height,
                "annotation_id": entry.get("id"),
                "category_id": category_numbers[category_id],
                "category": annotations.categories[category_id],
                "segmentation": json.dumps(segmentation),
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
            "frame": annotations.frame,
            "images_listed": listed_photos,
            "images_missing": missing,
            "images_turned": turned,
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


def turned_photos(headers: Mapping[str, Header]) -> list[str]:
    """Return which of the photos, by name, an EXIF orientation turns or mirrors, in words."""
    marks = ((name, header.orientation) for name, header in sorted(headers.items()))
    return [f"{name}: EXIF orientation {orientation}" for name, orientation in marks if orientation != 1]


def _read_headers(photos: Iterable[AnnotatedPhoto], folder: Path) -> tuple[dict[str, Header], dict[str, str]]:
    """Return the headers of the photos in a folder, by name, and why others that are there do not open."""
    headers: dict[str, Header] = {}
    unreadable: dict[str, str] = {}
    for name in progress({photo.name: None for photo in photos}, "photos looked for"):
        path = folder / name
        try:
            if path.is_file():
                headers[name] = read_header(path)
        except UnreadableImage as error:
            unreadable[name] = str(error).removeprefix(f"{folder}{os.sep}")
        except OSError as error:
            unreadable[name] = f"{reprlib.repr(name)}: {error.strerror}"
    return headers, unreadable


def _known(known: Mapping[Hashable, Any], entry: Mapping[str, Any], key: str) -> Hashable:
    """Return the id that an annotation has at a key (``ValueError`` where it has none that is known)."""
    value = entry.get(key)
    if not is_id(value) or value not in known:
        raise ValueError(f"unknown or absent {key} {reprlib.repr(value)}")
    return value


def _is_crowd(entry: Mapping[str, Any]) -> bool:
    value = entry.get("iscrowd")
    if value not in (None, 0, 1):
        raise ValueError(f"iscrowd is {reprlib.repr(value)}; expected 0 or 1")
    return bool(value)


def _name(entry: Any, place: int) -> Any:
    """Return how an annotation is called in messages: by its id as it is, else by its place in the list, from 1."""
    value = entry.get("id") if isinstance(entry, dict) else None
    if value is None:
        return f"number {place} of the list"
    is_plain = is_text(value) if isinstance(value, str) else is_id(value) and value == value
    return value if is_plain else reprlib.repr(value)


def _check_size(photo: AnnotatedPhoto, header: Header, frame: str) -> None:
    """Raise a ``ValueError`` where a photo has not the annotated size: no mask would fit."""
    annotated = photo.width, photo.height
    if annotated == header.size(frame):
        return
    found = _in_words(header.size(frame))
    hint = ""
    if header.orientation != 1:
        (other,) = set(FRAMES) - {frame}
        found += f" as {frame}, {_in_words(header.size(other))} as {other} (EXIF orientation {header.orientation})"
        if annotated == header.size(other):
            hint = f"; set the key 'frame' of this source to {other} if its annotations were drawn on photos as {other}"
    elif annotated == header.stored[::-1]:
        hint = " (width and height exchanged, as of a photo that has lost its EXIF orientation)"
    raise ValueError(f"{photo.name} has {found} pixels, annotated are {_in_words(annotated)}{hint}")


def _in_words(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


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
