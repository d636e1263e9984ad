"""Pictures that people send: looked at before they are decoded, and in memory only."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from segswap.server.refused import Refused

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
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
    except Image.DecompressionBombError:
        raise too_many from None
    except UnidentifiedImageError:
        raise Refused(
            415,
            f"{name}: not a picture of a known format; expected JPEG, PNG, TIFF, WebP, GIF or BMP (save HEIC as JPEG)",
        ) from None
    except Exception as error:  # of damaged heads Pillow may trip over anything
        raise Refused(422, f"{name}: damaged ({error}); restore the file, or save it anew") from None
    if width * height > MOST_PIXELS:
        raise too_many
    return data
