"""Reading, resizing and writing pictures: one path for images and masks alike."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import ExifTags, Image

from segswap.errors import InputError
from segswap.listing import is_heic

MAX_PIXELS = 400_000_000
"""Of a picture that is read: 1.2 GB of memory. Few bytes can claim to be more pixels than any memory holds."""

_NO_SUCH_PICTURE = (
    errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip

_FLIPS = {2: 1, 3: -1, 4: 0}
"""OpenCV's code of the flip that an EXIF orientation asks for; 5 to 8 are 1 to 4 after a transpose."""

_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
"""OpenCV follows orientations of some formats only, and finds others than Pillow: ``turn`` follows them all."""

_PNG = b"\x89PNG\r\n\x1a\n"

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
    except (OSError, ValueError) as error:
        # Text that can be no file's name is a ValueError. Where a machine is at its limits, no file is to blame.
        if isinstance(error, OSError) and error.errno not in _NO_SUCH_PICTURE:
            raise
        why = getattr(error, "strerror", error)
        raise UnreadableImage(f"{path}: cannot be opened ({why}); expected a picture") from None
    try:
        return decode_image(data)
    except UnreadableImage as error:
        raise UnreadableImage(f"{path}: {error}; replace or remove the file") from None


@dataclasses.dataclass(frozen=True)
class Header:
    """What a picture's header says of its pixels.

    Attributes:
        stored: (width, height) in pixels as they lie in the file.
        orientation: of EXIF, 1 to 8: how the stored pixels are turned to be looked at (``turn``); 1: not at all.
    """

    stored: tuple[int, int]
    orientation: int

    @property
    def shown(self) -> tuple[int, int]:
        """(width, height) in pixels of the picture as it is looked at, and as ``read_image`` gives it."""
        return self.stored[::-1] if self.orientation > 4 else self.stored

    def size(self, frame: str) -> tuple[int, int]:
        """Return (width, height) in pixels in a frame, ``stored`` or ``shown``."""
        return {"stored": self.stored, "shown": self.shown}[frame]


def read_header(path: str | os.PathLike) -> Header:
    """Return what a picture's header says.

    No pixel is decoded, unless Pillow does not understand the header. So damage behind the header is not seen.

    Raises:
        UnreadableImage: as ``read_image``, as far as the header tells.
    """
    # Of bytes that are none of its formats Pillow may trip over anything.
    with contextlib.suppress(Exception), open(path, "rb") as file, Image.open(file) as picture:
        size, orientation = picture.size, _orientation(picture, file)
        if size[0] * size[1] <= MAX_PIXELS:
            # Pillow gives the size of a TIFF picture as it is looked at.
            turned = picture.format == "TIFF" and orientation > 4
            return Header(size[::-1] if turned else size, orientation)
    height, width = read_image(path).shape[:2]
    return Header((width, height), 1)


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return the (width, height) in pixels of a picture as ``read_image`` gives it; see ``read_header``.

    Raises:
        UnreadableImage: as ``read_header``.
    """
    return read_header(path).shown


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return stored pixels as they are looked at.

    Args:
        pixels: uint8 (H, W) or (H, W, C).
        orientation: of EXIF, 1 to 8.

    Returns:
        the same pixels, (W, H) or (W, H, C) from orientation 5 on.
    """
    if orientation > 4:
        pixels = cv2.transpose(pixels)
    flip = _FLIPS.get((orientation - 1) % 4 + 1)
    return pixels if flip is None else cv2.flip(pixels, flip)


def _orientation(picture: Image.Image, file: BinaryIO) -> int:
    """Return the EXIF orientation of an opened picture, 1 where it has none that is known; ``file`` it was read from.

    Of EXIF alone, as browsers do: Pillow's own method also looks into XMP, and decodes PNG pictures to look behind the
    pixels.
    """
    orientation = None
    with contextlib.suppress(Exception):  # damaged EXIF data say nothing
        if picture.format == "TIFF":
            orientation = picture.tag_v2.get(ExifTags.Base.Orientation)
        else:
            exif = Image.Exif()
            exif.load(picture.info.get("exif") or (_last_exif(file) if picture.format == "PNG" else b""))
            orientation = exif.get(ExifTags.Base.Orientation)
    return int(orientation) if orientation in range(1, 9) else 1


def _last_exif(file: BinaryIO) -> bytes:
    """Return the EXIF data of a PNG file, which may stand behind the pixels; empty where it has none."""
    place = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return file.read(length)
            file.seek(length + 4, os.SEEK_CUR)
        return b""
    finally:
        file.seek(place)


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
    file = io.BytesIO(data)
    try:
        header = Image.open(file)
    except Image.DecompressionBombError:
        raise UnreadableImage(_too_large(f"more than {2 * MAX_PIXELS:,}")) from None
    except Exception:  # of bytes that are none of its formats Pillow may trip over anything
        return _decode_plain(data, _unknown(data))
    with header:
        width, height = header.size
        if width * height > MAX_PIXELS:
            raise UnreadableImage(_too_large(f"{width:,} x {height:,}"))
        what = f"a {header.format} picture of {width} x {height} pixels, damaged, cut off or of a rare kind"
        # Both decoders turn TIFF pictures themselves.
        orientation = 1 if header.format == "TIFF" else _orientation(header, file)
        # Of 16-bit grey, which Pillow does not scale, no more than one shade can be transparent.
        transparent = header.has_transparency_data and not header.mode.startswith("I")
        pixels = _decode_transparent(header, what) if transparent else _decode_plain(data, what)
        return turn(pixels, orientation)


def _too_large(pixels: str) -> str:
    return f"a picture of {pixels} pixels; at most {MAX_PIXELS:,} are read"


def _unknown(data: bytes) -> str:
    """Return what bytes may be that are no picture of a known format."""
    if is_heic(data):
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
    """Decode a picture without transparency, as it is stored; ``what`` it is, for the message."""
    # OpenCV makes room for as many bytes as a chunk of a PNG claims to have: up to 4 GB for a file of 100 bytes.
    whole = data and _has_whole_chunks(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _AS_STORED) if whole else None
    except cv2.error as error:
        what, image = f"{what}: {error.err}", None
    if image is None:
        raise UnreadableImage(f"{len(data):,} bytes that do not decode as a picture ({what})")
    return image


def _decode_transparent(header: Image.Image, what: str) -> np.ndarray:
    """Decode a picture with transparency, as it is stored, on white: colours below were never meant to be seen."""
    try:
        picture = header.convert("RGBA")
    except Exception as error:  # Pillow's decoders raise whatever they trip over
        raise UnreadableImage(f"bytes that do not decode as a picture ({what}: {error})") from None
    on_white = Image.new("RGB", picture.size, "white")
    on_white.paste(picture, mask=picture)
    return np.array(on_white)
