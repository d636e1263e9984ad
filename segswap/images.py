"""Reading, resizing and writing pictures: one path for images and masks alike."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from segswap.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")

MAX_PIXELS = 400_000_000
"""Of a picture that is read: 1.2 GB of memory. Few bytes can claim to be more pixels than any memory holds."""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")

_PNG = b"\x89PNG\r\n\x1a\n"

_QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

# What is read is decided here; Pillow on its own warns from 89 million pixels on and refuses twice that.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# What a decoder says of a damaged picture is an exception here; on standard error it would be said twice.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableImage(InputError):
    """A picture that does not open; callers that may skip pictures catch it, count and name it."""


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture file as RGB, uint8 (H, W, 3); see ``decode_image``.

    Raises:
        UnreadableImage: when the file is missing, empty or not decodable as a picture.
    """
    try:
        data = Path(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise UnreadableImage(f"{path}: cannot be opened ({error.strerror}); expected a picture") from None
    try:
        return decode_image(data)
    except UnreadableImage as error:
        raise UnreadableImage(f"{path}: {error}; replace or remove the file") from None


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return the (width, height) in pixels of a picture as ``read_image`` gives it, from its header.

    No pixel is decoded, unless Pillow does not understand the header. So whatever lies behind the header is not seen:
    damage, and the rare rotation mark at the end of a PNG.

    Raises:
        UnreadableImage: as ``read_image``, as far as the header tells.
    """
    with contextlib.suppress(Exception):  # of bytes that are none of its formats Pillow may trip over anything
        with Image.open(path) as header:
            width, height = header.size
            # Not the method of PNG pictures, which decodes them to look behind the pixels.
            orientation = Image.Image.getexif(header).get(ExifTags.Base.Orientation)
        if width * height <= MAX_PIXELS:
            # Of TIFF the size is that of the turned picture already.
            turned = orientation in _QUARTER_TURNS and header.format != "TIFF"
            return (height, width) if turned else (width, height)
    height, width = read_image(path).shape[:2]
    return width, height


def list_images(folder: str | os.PathLike, subfolders: bool = False) -> list[Path]:
    """Return the picture files of a folder, if asked for also of its subfolders, sorted by path.

    Raises:
        InputError: when the folder is missing or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder of pictures")
    entries = folder.rglob("*") if subfolders else folder.iterdir()
    paths = sorted(path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES)
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

    As it is looked at: turned as its EXIF data say, what is transparent on white, of an animation the first frame.
    Grey is repeated; 16 bits are scaled to 8.

    Raises:
        UnreadableImage: when the bytes are not a whole picture, or one of more than ``MAX_PIXELS``.
    """
    try:
        header = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError:
        raise UnreadableImage(_too_large(f"more than {2 * MAX_PIXELS:,}")) from None
    except Exception:  # of bytes that are none of its formats Pillow may trip over anything
        return _decode_plain(data, _unknown(data))
    with header:
        width, height = header.size
        if width * height > MAX_PIXELS:
            raise UnreadableImage(_too_large(f"{width:,} x {height:,}"))
        what = f"a {header.format} picture of {width} x {height} pixels, damaged, cut off or of a rare kind"
        # Of 16-bit grey, which Pillow does not scale, no more than one shade can be transparent.
        transparent = header.has_transparency_data and not header.mode.startswith("I")
        return _decode_transparent(header, what) if transparent else _decode_plain(data, what)


def _too_large(pixels: str) -> str:
    return f"a picture of {pixels} pixels; at most {MAX_PIXELS:,} are read"


def _unknown(data: bytes) -> str:
    """Return what bytes may be that are no picture of a known format."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return "a HEIC picture: these are not read, save it as JPEG or PNG"
    return "of no known format" if data else "the file is empty"


def _has_whole_chunks(data: bytes) -> bool:
    """Return whether each chunk of a PNG ends within the file; data of other formats have none."""
    at = len(_PNG) if data.startswith(_PNG) else len(data)
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        at += 12 + length
        if kind == b"IEND":
            break
    return at <= len(data)


def _decode_plain(data: bytes, what: str) -> np.ndarray:
    """Decode a picture without transparency; ``what`` it is, for the message."""
    # OpenCV makes room for as many bytes as a chunk of a PNG claims to have: up to 4 GB for a file of 100 bytes.
    whole = data and _has_whole_chunks(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if whole else None
    except cv2.error as error:
        what, image = f"{what}: {error.err}", None
    if image is None:
        raise UnreadableImage(f"{len(data):,} bytes that do not decode as a picture ({what})")
    return image


def _decode_transparent(header: Image.Image, what: str) -> np.ndarray:
    """Decode a picture with transparency, on white: the colours of what is transparent were never meant to be seen."""
    try:
        picture = ImageOps.exif_transpose(header).convert("RGBA")
    except Exception as error:  # Pillow's decoders raise whatever they trip over
        raise UnreadableImage(f"bytes that do not decode as a picture ({what}: {error})") from None
    on_white = Image.new("RGB", picture.size, "white")
    on_white.paste(picture, mask=picture)
    return np.array(on_white)
