"""The images of a collection: which ones, in which order, and those that are left out."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from segswap.errors import InputError
from segswap.files import read_json, write_json
from segswap.images import UnreadableImage, read_image
from segswap.listing import list_images
from segswap.progress import progress

MIRRORED = "mirrored "
"""Before an image's name: its mirror image, in a feature store."""


@dataclasses.dataclass(frozen=True)
class Collection:
    """Images of one folder; an image's number is its place here.

    Attributes:
        folder: that holds them.
        images: their names.
        left_out: why images of the folder are not among them, by name.
    """

    folder: Path
    images: tuple[str, ...]
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    def read(self, number: int) -> np.ndarray:
        """Return an image, RGB uint8 (H, W, 3)."""
        return read_image(self.folder / self.images[number])

    def feature_names(self, mirrored: bool = False) -> list[str]:
        """Return the names in a feature store: the images, then their mirror images if asked for."""
        return [*self.images, *([MIRRORED + name for name in self.images] if mirrored else [])]

    def loaders(self, mirrored: bool = False) -> list[Callable[[], np.ndarray]]:
        """Return readers of the images of ``feature_names``."""
        numbers = range(len(self.images))
        plain = [lambda n=n: self.read(n) for n in numbers]
        return [*plain, *([lambda n=n: cv2.flip(self.read(n), 1) for n in numbers] if mirrored else [])]

    def write(self, path: str | os.PathLike) -> None:
        """Write as JSON."""
        write_json(path, {"folder": str(self.folder), "images": self.images, "left_out": self.left_out})


def check_size(collection: Collection) -> Collection:
    """Return the collection.

    Raises:
        InputError: when it has fewer than three images: what is shared is recognised by cycles over three.
    """
    count = len(collection.images)
    if count < 3:
        left_out = f" ({len(collection.left_out)} left out)" if collection.left_out else ""
        raise InputError(
            f"{collection.folder}: {count} image{'s' * (count != 1)}{left_out}; discovery compares at least three: "
            "put more there, or compare two with `segswap match`"
        )
    return collection


def read_collection(path: str | os.PathLike) -> Collection:
    """Read a file of ``Collection.write``.

    Raises:
        InputError: when the file is missing or not of that form.
    """
    content = read_json(path)
    try:
        return Collection(Path(content["folder"]), tuple(content["images"]), dict(content["left_out"]))
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a list of a collection's images ({error}); remake the file") from None


def open_folder(folder: str | os.PathLike) -> Collection:
    """List the images of any folder; those that do not open or repeat another, pixel for pixel, are left out.

    A second copy would match the first everywhere and outdo all that is worth finding.

    Raises:
        InputError: when the folder is missing, or fewer than three images are left.
    """
    images: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for path in progress(list_images(folder), "images"):
        try:
            pixels = read_image(path)
        except UnreadableImage as error:
            left_out[path.name] = f"does not open ({error})"
            continue
        digest = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
        if digest in images:
            left_out[path.name] = f"the same picture as {images[digest]}"
        else:
            images[digest] = path.name
    for name, why in left_out.items():
        print(f"{name}: left out, {why}", flush=True)
    return check_size(Collection(Path(folder), tuple(images.values()), left_out))
