"""Reading, resizing and writing pictures: one path for images and masks alike."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from segswap.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class UnreadableImage(InputError):
    """A picture that does not open; callers that may skip pictures catch it, count and name it."""


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture as RGB, uint8 (H, W, 3); grey is repeated, alpha dropped, EXIF rotation applied.

    Raises:
        UnreadableImage: when the file is missing, empty or not decodable as a picture.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UnreadableImage(f"{path}: cannot be opened ({error.strerror}); expected a picture") from None
    try:
        return decode_image(data.tobytes())
    except UnreadableImage as error:
        raise UnreadableImage(f"{path}: {error}; restore or remove the file") from None


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Return the picture files of a folder (not of its subfolders), sorted by name.

    Raises:
        InputError: when the folder is missing or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder of pictures")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: holds no picture ({', '.join(IMAGE_SUFFIXES)}); put at least one there")
    return paths


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H, W) or (H, W, C) to ``size`` = (width, height), the aspect not kept.

    Axes that shrink are averaged over area (no aliasing), axes that grow are interpolated linearly; the
    half-pixel convention holds for both, so a cell centre stays a cell centre.
    """
    width, height = size
    shrunk = (min(width, image.shape[1]), min(height, image.shape[0]))
    if shrunk != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (width, height):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode RGB uint8 (H, W, 3) as JPEG bytes."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError(f"JPEG encoding failed for an array of shape {image.shape}, {image.dtype}")
    return data.tobytes()


def decode_image(data: bytes) -> np.ndarray:
    """Decode a picture file's bytes to RGB uint8 (H, W, 3).

    Raises:
        UnreadableImage: when the bytes are not a whole picture.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    except cv2.error as error:
        raise UnreadableImage(f"{len(data)} bytes that do not decode as a picture ({error.err})") from None
    if image is None:
        raise UnreadableImage(f"{len(data)} bytes that do not decode as a picture")
    return image
