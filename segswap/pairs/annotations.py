"""Objects from annotations of any format: what is broken is counted and named, what is right becomes the object table.

Annotations come from anywhere: nothing in them is taken as right before it was looked at.
"""

from __future__ import annotations

import dataclasses
import json
import os
import reprlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segswap.errors import InputError
from segswap.files import write_json
from segswap.images import Header, UnreadableImage, read_header, turn
from segswap.names import is_utf8
from segswap.pairs.annotation_masks import decode_segmentation, encode_segmentation
from segswap.pairs.objects import describe_objects, fits_table, mask_columns, turned_photos, write_object_rows
from segswap.progress import progress

FRAMES = ("stored", "shown")
"""How a photo lay while its annotations were drawn: as its pixels are stored, as COCO's tools read them, or as its EXIF
orientation says that it is looked at."""


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
    return isinstance(value, str) and value != "" and is_utf8(value)


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


def _numbers(ids: Iterable[Hashable]) -> dict[Hashable, int]:
    """Return the number that stands for each id in a table: itself, or where one cannot, 1, 2, ... for all."""
    ids = list(ids)
    return dict(zip(ids, ids if all(map(fits_table, ids)) else range(1, len(ids) + 1), strict=True))


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
