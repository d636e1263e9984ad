"""Objects from a COCO annotation file."""

from __future__ import annotations

import os
import reprlib
from typing import Any

from segswap.errors import InputError
from segswap.files import read_json
from segswap.pairs.annotations import (
    AnnotatedPhoto,
    Annotations,
    ObjectSettings,
    is_id,
    is_text,
    write_annotated_objects,
)


def build_object_table(
    annotations: str | os.PathLike,
    images: str | os.PathLike,
    table: str | os.PathLike,
    problems: str | os.PathLike,
    settings: ObjectSettings,
) -> None:
    """Read a COCO annotation file and write the object table (Parquet) and what was left out (JSON).

    Rows and counts: ``annotations.write_annotated_objects``.

    Raises:
        InputError: as of ``read_coco`` and ``annotations.write_annotated_objects``.
    """
    write_annotated_objects(read_coco(annotations, settings.frame or "stored"), images, table, problems, settings)


def read_coco(path: str | os.PathLike, frame: str = "stored") -> Annotations:
    """Read a COCO annotation file.

    Args:
        path: of the file.
        frame: of ``annotations.FRAMES``, in which it was drawn; COCO's tools do not follow EXIF orientations.

    Raises:
        InputError: when it is not COCO's layout, or two images or two categories have one id.
    """
    images, annotations, categories = _lists(path)
    photos: dict[Any, AnnotatedPhoto] = {}
    broken_photos: list[str] = []
    for place, image in enumerate(images, 1):
        try:
            photo = _photo(image)
        except ValueError as error:
            broken_photos.append(f"number {place} of the list: {error}")
            continue
        first = photos.setdefault(image["id"], photo)
        if first != photo:
            raise InputError(
                f"{path}: {first.name} and {photo.name} both have the image id {image['id']}; expected an id for "
                "each, as annotations name their image by it. Where files were joined, give them as they were, as "
                "several sources (objects.train.sources)"
            )
    names: dict[Any, str] = {}
    for place, category in enumerate(categories, 1):
        if not isinstance(category, dict) or not is_id(category.get("id")) or not is_text(category.get("name")):
            raise InputError(
                f"{path}: number {place} of 'categories' is {reprlib.repr(category)}; "
                "expected a number or text as 'id' and text as 'name'"
            )
        first_name = names.setdefault(category["id"], category["name"])
        if first_name != category["name"]:
            raise InputError(
                f"{path}: {first_name} and {category['name']} both have the category id {category['id']}; expected an "
                "id for each, as annotations name their category by it"
            )
    return Annotations(str(path), frame, photos, names, annotations, broken_photos=broken_photos)


def _lists(path: str | os.PathLike) -> list[list[Any]]:
    """Return the lists of a COCO annotation file: images, annotations, categories."""
    coco = read_json(path)
    names = ("images", "annotations", "categories")
    missing = [name for name in names if not isinstance(coco, dict) or not isinstance(coco.get(name), list)]
    if missing:
        raise InputError(
            f"{path}: not a COCO annotation file (no list {', '.join(map(repr, missing))}); "
            "expected lists 'images', 'annotations' and 'categories'"
        )
    return [coco[name] for name in names]


def _photo(image: Any) -> AnnotatedPhoto:
    """Return a photo of the list (``ValueError`` where something else stands there)."""
    if not isinstance(image, dict) or not is_id(image.get("id")):
        raise ValueError(f"{reprlib.repr(image)}; expected an image with a number or text as 'id'")
    name = image.get("file_name")
    if not is_text(name):
        raise ValueError(f"the file_name of image {reprlib.repr(image['id'])} is {reprlib.repr(name)}; expected text")
    width, height = image.get("width"), image.get("height")
    try:
        return AnnotatedPhoto(name, int(width), int(height))
    except (TypeError, ValueError, OverflowError):
        found = f"{reprlib.repr(width)} and {reprlib.repr(height)}"
        raise ValueError(f"width and height of {name} are {found}; expected numbers of pixels") from None
