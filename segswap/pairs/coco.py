"""Objects from a COCO annotation file."""

from __future__ import annotations

import os
from typing import Any

from segswap.errors import InputError
from segswap.files import read_json
from segswap.pairs.objects import AnnotatedPhoto, Annotations, ObjectSettings, write_annotated_objects


def build_object_table(
    annotations: str | os.PathLike,
    images: str | os.PathLike,
    table: str | os.PathLike,
    problems: str | os.PathLike,
    settings: ObjectSettings,
) -> None:
    """Read a COCO annotation file and write the object table (Parquet) and what was left out (JSON).

    Rows and counts: ``objects.write_annotated_objects``.

    Raises:
        InputError: as of ``read_coco`` and ``objects.write_annotated_objects``.
    """
    write_annotated_objects(read_coco(annotations), images, table, problems, settings)


def read_coco(path: str | os.PathLike) -> Annotations:
    """Read a COCO annotation file.

    Raises:
        InputError: when it is not COCO's layout, or two images have one id.
    """
    coco = read_json(path)
    photos: dict[Any, AnnotatedPhoto] = {}
    try:
        categories = {c["id"]: c["name"] for c in coco["categories"]}
        for image in coco["images"]:
            photo = AnnotatedPhoto(image["file_name"], int(image["width"]), int(image["height"]))
            first = photos.setdefault(image["id"], photo)
            if first != photo:
                raise InputError(
                    f"{path}: {first.name} and {photo.name} both have the image id {image['id']}; expected an id for "
                    "each, as annotations name their image by it. Where files were joined, give them as they were, as "
                    "several sources (objects.train.sources)"
                )
        return Annotations(str(path), photos, categories, coco["annotations"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a COCO annotation file ({error} is missing); "
            "expected lists 'images', 'annotations' and 'categories'"
        ) from None
