"""Pictures that people send: looked at before they are decoded, and in memory only."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from segswap.images import UnreadableImage, decode_image
from segswap.server.refused import Refused

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
MOST_PIXELS = 80_000_000
"""Of a picture: decoded it takes three bytes for each."""


def check_upload(data: bytes, name: str, most_bytes: int) -> bytes:
    """Return the bytes of a picture file whose head is in order; nothing is decoded yet.

    Args:
        data: the file. name: for messages. most_bytes: that it may have.

    Raises:
        Refused: 400 for an empty file, 413 for too many bytes or pixels, 415 for what is no picture of a known format.
    """
    if not data:
        raise Refused(400, f"{name}: the file is empty; choose a picture")
    if len(data) > most_bytes:
        raise Refused(
            413,
            f"{name}: {len(data) / 1e6:.1f} MB; at most {most_bytes / 1e6:g} MB are taken. Save it smaller, or start "
            "the server with a larger --max-upload",
        )
    too_many = Refused(
        413, f"{name}: more than {MOST_PIXELS // 1_000_000} million pixels; save it smaller and choose it again"
    )
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
    except Image.DecompressionBombError:
        raise too_many from None
    except UnidentifiedImageError:
        raise Refused(415, f"{name}: not a picture of a known format; expected {', '.join(FORMATS)}") from None
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, EOFError) as error:  # what damaged heads raise
        raise Refused(422, f"{name}: damaged ({error}); restore the file, or save it anew") from None
    if width * height > MOST_PIXELS:
        raise too_many
    return data


def decode_upload(data: bytes, name: str) -> np.ndarray:
    """Return a checked picture, RGB uint8 (H, W, 3).

    Raises:
        Refused: 422 when it does not decode.
    """
    try:
        return decode_image(data)
    except UnreadableImage:
        raise Refused(422, f"{name}: damaged, it does not open; restore the file, or save it anew") from None
