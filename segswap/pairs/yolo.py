"""Objects from YOLO's segmentation labels: beside each photo a text file, a line for each object.

A line is ``class x1 y1 x2 y2 ...``: the number of the class, from 0, and a polygon whose coordinates are shares of the
photo's width and height.
"""

from __future__ import annotations

import itertools
import os
import reprlib
from pathlib import Path
from typing import Any

import yaml

from segswap.errors import InputError
from segswap.images import UnreadableImage, read_header
from segswap.listing import is_hidden, list_images
from segswap.lists import Pictures
from segswap.pairs.annotations import AnnotatedPhoto, Annotations, ObjectSettings, is_text, write_annotated_objects
from segswap.progress import progress


def build_yolo_table(
    images: str | os.PathLike,
    labels: str | os.PathLike,
    names: str | os.PathLike | None,
    table: str | os.PathLike,
    problems: str | os.PathLike,
    settings: ObjectSettings,
) -> None:
    """Read YOLO labels and write the object table (Parquet) and what was left out (JSON).

    Rows and counts: ``annotations.write_annotated_objects``.

    Raises:
        InputError: as of ``read_yolo`` and ``annotations.write_annotated_objects``.
    """
    annotations = read_yolo(images, labels, names, settings.frame or "shown")
    write_annotated_objects(annotations, images, table, problems, settings)


def read_yolo(
    images: str | os.PathLike, labels: str | os.PathLike, names: str | os.PathLike | None, frame: str = "shown"
) -> Annotations:
    """Read the labels of a folder of photos.

    Photos are numbered from 1 in the order of their names. An entry's id is ``<label file>:<line>``. A photo without a
    label file shows no object; a label file without a photo counts as a missing photo. Classes are named as ``names``
    says, else ``class <number>``.

    Args:
        images: folder of the photos.
        labels: folder of the label files, each called as its photo, with the suffix ``.txt``.
        names: see ``read_class_names``.
        frame: of ``annotations.FRAMES``, in which the outlines were drawn; YOLO's tools follow EXIF orientations.

    Raises:
        InputError: when a folder or the file of names is missing or of another form.
    """
    labels = Path(labels)
    if not labels.is_dir():
        raise InputError(f"{labels}: no such folder; expected the folder of YOLO's label files (.txt)")
    categories = read_class_names(names) if names else {}
    photos: dict[int, AnnotatedPhoto] = {}
    entries: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    without_photo = {path.name for path in labels.glob("*.txt") if not is_hidden(path.name)} - {_LIST_OF_CLASSES}
    files = Pictures(labels)
    for number, path in enumerate(progress(list_images(images), "labels"), 1):
        label = labels / (files.find(f"{path.stem}.txt") or f"{path.stem}.txt")
        without_photo.discard(label.name)
        try:
            header = read_header(path)
        except UnreadableImage:
            photos[number] = AnnotatedPhoto(path.name, 0, 0)
            continue
        width, height = header.size(frame)
        photos[number] = AnnotatedPhoto(path.name, width, height)
        # Bytes that are no text make lines that are no labels, which are named.
        lines = label.read_text(encoding="utf-8-sig", errors="replace").splitlines() if label.is_file() else []
        for place, line in enumerate(lines, 1):
            if not line.strip():
                continue
            entry_id = f"{label.name}:{place}"
            try:
                category, outline = _parse(line)
                if names and category not in categories:
                    raise ValueError(f"class {category} has no name in {names}")
            except ValueError as error:
                broken.append({"annotation_id": entry_id, "reason": str(error)})
                continue
            categories.setdefault(category, f"class {category}")
            polygon = [round(share * side, 2) for share, side in zip(outline, itertools.cycle((width, height)))]
            entries.append({"id": entry_id, "image_id": number, "category_id": category, "segmentation": [polygon]})
    stems = sorted(Path(name).stem for name in without_photo)
    for number, stem in enumerate(stems, len(photos) + 1):
        photos[number] = AnnotatedPhoto(f"{stem}.*", 0, 0)
    return Annotations(str(labels), frame, photos, categories, entries, broken)


_LIST_OF_CLASSES = "classes.txt"
"""Name of a text file that labelling tools leave among the labels."""


def _parse(line: str) -> tuple[int, list[float]]:
    """Return the class of a line and its outline: x and y in turn, shares of the photo.

    Raises:
        ValueError: when it is no such line.
    """
    words = line.split()
    if len(words) == 5:
        raise ValueError("a box (class x y width height), no outline; expected YOLO's labels for segmentation")
    if len(words) < 7 or len(words) % 2 == 0:
        raise ValueError(f"expected a class and three or more points x y, found {len(words)} numbers")
    try:
        category, outline = int(words[0]), [float(word) for word in words[1:]]
    except ValueError as error:
        raise ValueError(f"expected numbers only: {error}") from None
    if category < 0:
        raise ValueError(f"class {category}; classes are numbered from 0")
    outside = [share for share in outline if not 0 <= share <= 1]
    if outside:
        raise ValueError(f"coordinate {outside[0]:g} is no share of the photo's side, 0 to 1")
    return category, outline


def read_class_names(path: str | os.PathLike) -> dict[int, str]:
    """Read the names of classes: a text file with one a line, or the YAML file of a YOLO data set (key ``names``).

    Returns:
        names by the number of the class.

    Raises:
        InputError: when the file is missing or of another form.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if Path(path).suffix.lower() not in (".yaml", ".yml"):
            return dict(enumerate(line.strip() for line in text.strip().splitlines()))
        names = yaml.safe_load(text)["names"]
        numbered = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): _class_name(name) for number, name in numbered}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{path}: no names of classes ({' '.join(str(error).split())}); expected a text file with one name a line, "
            "or YOLO's YAML file with the key 'names'"
        ) from None


def _class_name(name: Any) -> str:
    """Return the name of a class, which YAML may take for a number.

    Raises:
        ValueError: when it is neither, such as a list, which in YAML may be larger than any memory.
    """
    if not isinstance(name, (str, int, float)) or not is_text(f"{name} "):
        raise ValueError(f"the name {reprlib.repr(name)} is no text")
    return str(name)
