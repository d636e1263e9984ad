"""The files of a matched pair in a folder: numbers, picture, and if asked for an animation and a page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segswap.drawing import write_picture
from segswap.errors import InputError
from segswap.files import content_key, make_folder, read_json, write_bytes, write_json
from segswap.images import resize
from segswap.matching.alignment import Alignment, align, correspondences
from segswap.matching.match import AS_GIVEN, Match, Turn, fitted_size
from segswap.report.match_page import match_gif, match_picture, write_match_page

JSON, PICTURE, ANIMATION, PAGE = FILES = ("match.json", "match.jpg", "match.gif", "index.html")

_VERSION = 1
"""Raise it when the same pictures, model and settings give other files: pairs are then matched again."""


@dataclass(frozen=True)
class MatchSettings:
    """How pairs are matched and shown.

    Attributes:
        sides: shortest and longest that the longer side of an image may be, pixels, multiples of 16.
        turns: versions of the second image that are tried.
        lines: at most so many are drawn.
        gif, page: whether these are written.
    """

    sides: tuple[int, int]
    turns: tuple[Turn, ...] = (AS_GIVEN,)
    lines: int = 24
    gif: bool = False
    page: bool = False


@dataclass(frozen=True)
class PictureFile:
    """A picture: its path, and the SHA-256 of its content."""

    path: Path
    digest: str


def pair_key(a: PictureFile, b: PictureFile, model: str, settings: MatchSettings) -> str:
    """Return the key of what the files of a pair depend on; ``model``: its ``key``."""
    return content_key([_VERSION, a.digest, b.digest, model, asdict(settings)])


def read_done(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the content of ``match.json`` where the folder holds all files of the pair with that key."""
    if not (folder / JSON).is_file():
        return None
    try:
        content = read_json(folder / JSON)
    except InputError:
        return None  # damaged: it is made again
    if not isinstance(content, dict) or content.get("key") != key:
        return None
    return content if all((folder / name).is_file() for name in content["files"]) else None


def match_numbers(match: Match) -> dict[str, float | int | bool]:
    """Return the numbers of a match by name.

    The scores (the mean of both directions, the first picture in the second, the second in the first) grow with the
    size at which pictures were matched; the shares of cells with a joint mask above 0.5 do not.
    """
    return {
        "score": match.score,
        "score_first": match.directed[0],
        "score_second": match.directed[1],
        "share_first": match.shares[0],
        "share_second": match.shares[1],
        "rotation": match.turn.rotation,
        "mirrored": match.turn.mirrored,
    }


def encode_mask(mask: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Return where a mask of cells is above 0.5 as COCO run lengths.

    Args:
        mask: float (h, w) in [0, 1].
        size: (width, height) of the picture in pixels, to which the mask is interpolated.

    Returns:
        ``size`` [height, width], and ``counts`` as text.
    """
    # Bytes, not floats: pictures may have hundreds of millions of pixels.
    pixels = resize(np.rint(mask * 255).astype(np.uint8), size) > 127
    encoded = coco_mask.encode(np.asfortranarray(pixels.view(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


def write_match(
    folder: Path,
    files: tuple[PictureFile, PictureFile],
    pictures: tuple[np.ndarray, np.ndarray],
    match: Match,
    settings: MatchSettings,
    model: dict[str, str],
    key: str,
) -> tuple[dict[str, Any], Alignment]:
    """Write the files of a matched pair; ``match.json`` last, so that where it is the others are.

    Args:
        folder: made where it is absent; of an earlier pair's files none is left.
        files: of the pictures. pictures: RGB uint8 (H, W, 3), as they were matched.
        match: of these pictures.
        model: ``checkpoint`` that it was read from, and ``key`` of its weights.
        key: of ``pair_key``.

    Returns:
        the content of ``match.json``, and how the pictures lie on each other.

    Raises:
        InputError: when the folder cannot be made, or holds a file that is not a match's and would be written over.
    """
    make_folder(folder, "--output")
    _refuse_foreign(folder, files)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    sizes = tuple((picture.shape[1], picture.shape[0]) for picture in pictures)
    names = tuple(file.path.name for file in files)
    alignment = align(match, *sizes)
    written = [PICTURE]
    write_picture(folder / PICTURE, match_picture(*pictures, match, settings.lines), quality=90)
    if settings.gif and alignment.matrix is not None:
        write_bytes(folder / ANIMATION, match_gif(*pictures, alignment, names))
        written.append(ANIMATION)
    fitted = [fitted_size(size, *settings.sides) for size in sizes]
    if settings.page:
        facts = {
            "first picture": f"{names[0]}, {_by(sizes[0])} pixels, matched at {_by(fitted[0])}",
            "second picture": f"{names[1]}, {_by(sizes[1])} pixels, matched at {_by(fitted[1])}",
            "score": f"{match.score:.4g} ({match.directed[0]:.4g} first in second, {match.directed[1]:.4g} second in "
            "first)",
            "versions tried": f"{len(settings.turns)} of the second picture",
            "model": f"{model['checkpoint']} (key {model['key']})",
        }
        write_match_page(folder / PAGE, pictures, names, match, alignment, facts, settings.lines)
        written.append(PAGE)
    content = {
        "key": key,
        **match_numbers(match),
        **{
            side: {
                "file": str(file.path),
                "sha256": file.digest,
                "width": size[0],
                "height": size[1],
                "matched_at": list(matched),
                "mask": encode_mask(mask, size),
            }
            for side, file, size, matched, mask in zip(
                ("first", "second"), files, sizes, fitted, match.masks, strict=True
            )
        },
        "model": model,
        "sides": list(settings.sides),
        "correspondences": [[round(float(v), 3) for v in row] for row in correspondences(match, *sizes)],
        "alignment": {
            "matrix": None if alignment.matrix is None else alignment.matrix[:2].tolist(),
            "correspondences": alignment.count,
            "agreeing": alignment.agreeing,
        },
        "files": written,
    }
    write_json(folder / JSON, content)
    return content, alignment


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _refuse_foreign(folder: Path, files: tuple[PictureFile, PictureFile]) -> None:
    """Raise ``InputError`` where the folder holds a file that is not a match's and would be written over."""
    found = [name for name in FILES if (folder / name).exists()]
    for name in found:
        if any(file.path.samefile(folder / name) for file in files):
            raise InputError(f"{folder / name}: would be written over; choose another --output than its folder")
    if found and not {JSON, PICTURE} & set(found):
        # The picture is written first, so what was left by a killed run has one.
        raise InputError(f"{folder / found[0]}: is not of a match and would be written over; choose another --output")
