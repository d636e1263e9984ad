"""The pictures of the searched folder, by their number: no path of a request ever reaches the file system."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from segswap.drawing import fit
from segswap.files import content_key
from segswap.images import UnreadableImage, encode_jpeg, read_image
from segswap.names import as_text
from segswap.server.refused import Refused

VIEW, THUMBNAIL = 1600, 320
"""Longer sides in pixels, at most, of pictures that the page shows: whole, and in lists."""

_THUMBNAILS_KEPT = 1000
_QUALITY = 85


def jpeg(image: np.ndarray, longest: int) -> bytes:
    """Return a picture, RGB uint8 (H, W, 3), as JPEG with sides of up to ``longest`` pixels."""
    return encode_jpeg(fit(image, longest) if max(image.shape[:2]) > longest else image, _QUALITY)


def leads_outside(folder: Path, name: str) -> bool:
    """Return whether a file of a folder is a link to somewhere outside of it."""
    return not (folder / name).resolve().is_relative_to(folder.resolve())


class FolderPictures:
    """Pictures of one folder; a picture's number is its place in ``names``.

    Attributes:
        hidden: numbers of pictures that are links out of the folder; they are not shown.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names
        self.hidden = frozenset(number for number, name in enumerate(names) if leads_outside(folder, name))
        self._thumbnail = lru_cache(_THUMBNAILS_KEPT)(lambda number, version: jpeg(self.read(number), THUMBNAIL))

    @property
    def title(self) -> str:
        """The folder's name."""
        return as_text(self.folder.resolve().name)

    @property
    def listed(self) -> list[int]:
        """The numbers of the pictures that are shown."""
        return [number for number in range(len(self.names)) if number not in self.hidden]

    @property
    def count(self) -> int:
        """How many pictures are shown."""
        return len(self.names) - len(self.hidden)

    def path(self, number: int) -> Path:
        """Return the file of a picture.

        Raises:
            Refused: 404 for a number that there is not and for a file that has gone, 403 for a link out of the folder.
        """
        if not 0 <= number < len(self.names):
            raise Refused(404, f"no picture {number}; the folder's are 0 to {len(self.names) - 1}")
        name = self.names[number]
        if leads_outside(self.folder, name):
            raise Refused(403, f"{name}: a link that leads out of the folder; such pictures are not shown")
        path = self.folder / name
        if not path.is_file():
            raise Refused(404, f"{name}: no longer in the folder; put it back, or start the server again")
        return path

    def read(self, number: int) -> np.ndarray:
        """Return a picture, RGB uint8 (H, W, 3).

        Raises:
            Refused: as ``path``, and 422 when it does not open any more.
        """
        try:
            return read_image(self.path(number))
        except UnreadableImage:
            raise Refused(422, f"{self.names[number]}: does not open any more; restore the file") from None

    def version(self, number: int) -> str:
        """Return a key of a picture's file as it is now."""
        path = self.path(number)
        found = os.stat(path)
        return content_key([str(path.resolve()), found.st_mtime_ns, found.st_size])

    def view(self, number: int) -> bytes:
        """Return a picture as JPEG for the page."""
        return jpeg(self.read(number), VIEW)

    def thumbnail(self, number: int) -> bytes:
        """Return a picture as small JPEG."""
        return self._thumbnail(number, self.version(number))
