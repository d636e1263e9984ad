"""A benchmark of changed details on any folder of pictures, without labelling: which picture is a detail of?

Each detail is cut out of a picture of the folder and changed in two ways: altered (another size, turned, other colours,
blurred) and repainted (stylised, bent, in another picture's colours). Both are queries by themselves, and pasted into a
photo that has nothing to do with them. The picture and the place of each detail are known. A search ranks the folder's
pictures; numbers are judged here, from stored predictions of any way to search.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from segswap.benchmarks.metrics import box_iou, recall_at
from segswap.errors import InputError
from segswap.files import read_json, whole_folder, write_bytes, write_json
from segswap.geometry import rotation_matrix, scale_matrix, shift_matrix, warp_image
from segswap.images import UnreadableImage, encode_jpeg, image_size, read_image, resize
from segswap.listing import list_images
from segswap.names import as_text
from segswap.pairs.style import Reinhard
from segswap.progress import progress
from segswap.randomness import generator

KINDS = ("altered", "altered_photo", "repainted", "repainted_photo")
"""Kinds of queries: what is done to the detail, and whether it lies in a photo."""

LEAST = 48
"""Side in pixels of the square of the smallest detail's area; pictures that are too small for it have no detail."""

_DRAWS = 12
"""Boxes drawn for a detail; the one with the strongest gradients is taken, as flat ground lies in many pictures."""

_ASPECT = (0.7, 1.4)
_TURN = 10.0
"""Largest rotation of a detail in degrees, both ways."""

_QUALITY = {"altered": 40, "repainted": 60}
"""JPEG quality of the queries."""

_BENT = 0.025
"""Largest shift of a repainted detail's points, as a share of its longer side."""

_RECOLOURED = 0.6
"""Share of another picture's colour statistics in a repainted detail."""

_MOST_OF_PHOTO = 0.9
"""Share of a photo's sides that a detail in it may take."""

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels."""


@dataclasses.dataclass(frozen=True)
class AlteredSettings:
    """How the queries are made.

    Attributes:
        details: number of details; each is a query of every kind.
        share: bounds of the side of the square of a detail's area, relative to its picture's shorter side.
    """

    details: int
    share: Sequence[float]


@dataclasses.dataclass(frozen=True)
class AlteredQuery:
    """A query.

    Attributes:
        file: its picture.
        query_box: where the detail lies in that; None: it is all of it.
        kind: one of ``KINDS``.
        detail: number of the detail, from 0.
        picture: name of the picture that the detail is cut out of, as text (``segswap.names``).
        box: where it lies there, before it is turned.
    """

    file: Path
    query_box: Box | None
    kind: str
    detail: int
    picture: str
    box: Box


# The queries are made


def make_queries(
    pictures: str | os.PathLike,
    hosts: Sequence[str | os.PathLike],
    folder: str | os.PathLike,
    settings: AlteredSettings,
    seed: int,
) -> None:
    """Make the queries: ``images/`` and ``queries.json`` in a folder, which appears whole; ``load`` reads it.

    Details are of pictures in a random order, each once before one is taken again. A detail and its queries are the
    same however many details there are.

    Args:
        pictures: folder to cut details out of; pictures that do not open or are too small have none.
        hosts: folders of photos without the details, to paste them into.

    Raises:
        InputError: when there are fewer than two pictures, or no photo, large enough.
    """
    usable = _large_enough(pictures, settings)
    photos = [path for host in hosts for path in list_images(host)]
    order = generator(seed, "altered pictures").permutation(len(usable))
    entries = []
    with whole_folder(folder) as temporary:
        (temporary / "images").mkdir()
        for detail in progress(range(settings.details), "altered details"):
            path = usable[order[detail % len(usable)]]
            others = [other for other in usable if other != path]
            box, queries = _queries_of(path, others, photos, settings, seed, detail)
            for kind, (data, query_box) in queries.items():
                file = f"detail-{detail + 1:03d}-{kind}.jpg"
                write_bytes(temporary / "images" / file, data)
                known = {"file": file, "query_box": query_box, "kind": kind, "detail": detail}
                entries.append({**known, "picture": as_text(path.name), "box": box})
        write_json(temporary / "queries.json", entries)


def _large_enough(pictures: str | os.PathLike, settings: AlteredSettings) -> list[Path]:
    """Return the pictures of a folder that details can be cut out of."""
    least = LEAST / settings.share[0]
    usable, listed = [], list_images(pictures)
    for path in listed:
        try:
            if min(image_size(path)) >= least:
                usable.append(path)
        except UnreadableImage as error:
            print(f"left out: {error}", flush=True)
    if len(usable) < 2:
        raise InputError(
            f"{pictures}: of {len(listed)} pictures {len(usable)} have a shorter side of {least:.0f} pixels, for "
            f"details of {LEAST}; expected two or more. Name a folder of larger pictures in "
            "benchmarks.altered.pictures, or raise benchmarks.altered.share"
        )
    return usable


def _queries_of(
    path: Path, others: Sequence[Path], photos: Sequence[Path], settings: AlteredSettings, seed: int, detail: int
) -> tuple[Box, dict[str, tuple[bytes, Box | None]]]:
    """Return the box of a detail of a picture, and by kind the JPEG of its query and the box in that."""
    picture = read_image(path)
    box = draw_box(picture, settings.share, generator(seed, "altered box", detail))
    queries: dict[str, tuple[bytes, Box | None]] = {}
    for change in ("altered", "repainted"):
        rng = generator(seed, "altered detail", detail, change)
        angle = float(rng.uniform(-_TURN, _TURN))
        if change == "altered":
            shown = alter(cut(picture, box, float(rng.uniform(0.7, 1.4)), angle), rng)
        else:
            colours = read_image(others[rng.integers(len(others))])
            shown = repaint(cut(picture, box, 1.0, angle), colours, rng)
        queries[change] = encode_jpeg(shown, _QUALITY[change]), None
        kind = f"{change}_photo"
        rng = generator(seed, "altered photo", detail, change)
        photo, place = paste(shown, _draw_photo(photos, rng), rng)
        queries[kind] = encode_jpeg(photo, _QUALITY[change]), place
    return box, queries


def draw_box(picture: np.ndarray, share: Sequence[float], rng: np.random.Generator) -> Box:
    """Draw the box of a detail in a picture, RGB uint8 (H, W, 3): of some random boxes the most textured one.

    Args:
        share: bounds of the side of the square of the box's area, relative to the picture's shorter side.
    """
    height, width = picture.shape[:2]
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    strength = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    boxes = []
    for _ in range(_DRAWS):
        side = rng.uniform(*share) * min(height, width)
        stretch = np.sqrt(rng.uniform(*_ASPECT))
        w, h = min(round(side * stretch), width), min(round(side / stretch), height)
        x, y = (int(rng.integers(0, room + 1)) for room in (width - w, height - h))
        boxes.append((x, y, x + w, y + h))
    return max(boxes, key=lambda box: float(strength[box[1] : box[3], box[0] : box[2]].mean()))


def cut(picture: np.ndarray, box: Box, scale: float, angle: float) -> np.ndarray:
    """Return what lies in a box of a picture, RGB uint8, scaled and turned about its middle by degrees.

    A turned box shows what surrounds it; beyond its border the picture is mirrored.
    """
    low, high = np.array(box[:2]), np.array(box[2:])
    size = tuple(max(1, round(length * scale)) for length in (high - low).tolist())
    to_middle = shift_matrix(*(-(low + high) / 2))
    turn = rotation_matrix((0.0, 0.0), angle)
    matrix = shift_matrix(size[0] / 2, size[1] / 2) @ scale_matrix(scale, scale) @ turn @ to_middle
    return warp_image(picture, matrix, size, cv2.BORDER_REFLECT_101)


def alter(detail: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a detail, RGB uint8, of another hue, saturation and brightness, and blurred."""
    hsv = cv2.cvtColor(detail.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-25, 25)) % 360
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.5, 1.3), 0, 1)
    changed = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).clip(0, 1) ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    blurred = cv2.GaussianBlur(changed, (0, 0), rng.uniform(0.01, 1.2))
    return np.rint(blurred * 255).astype(np.uint8)


def repaint(detail: np.ndarray, colours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a detail, RGB uint8, as if another hand had painted it: stylised, bent, in another picture's colours."""
    smooth = cv2.stylization(detail, sigma_s=float(rng.uniform(20, 60)), sigma_r=float(rng.uniform(0.3, 0.5)))
    height, width = smooth.shape[:2]
    coarse = rng.uniform(-1, 1, (2, 4, 4)).astype(np.float32) * _BENT * max(height, width)
    shift_x, shift_y = (cv2.resize(shift, (width, height), interpolation=cv2.INTER_CUBIC) for shift in coarse)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    bent = cv2.remap(smooth, x + shift_x, y + shift_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    stylist = Reinhard()
    return stylist.stylise([bent], [stylist.statistics(colours)], [_RECOLOURED])[0]


def paste(detail: np.ndarray, photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Box]:
    """Paste a detail into a photo at a random place, its edge feathered; both are RGB uint8.

    Returns:
        the new photo, and the detail's box in it. A detail that is too large for the photo is made smaller.
    """
    room = np.array(photo.shape[1::-1])
    size = np.array(detail.shape[1::-1])
    scale = min(1.0, *(_MOST_OF_PHOTO * room / size))
    width, height = (max(1, int(length)) for length in size * scale)
    x, y = (int(rng.integers(0, free + 1)) for free in (room[0] - width, room[1] - height))
    edge = max(2, round(0.06 * min(width, height)))
    opacity = np.zeros((height, width), np.float32)
    opacity[edge // 2 : height - edge // 2, edge // 2 : width - edge // 2] = 1
    opacity = cv2.GaussianBlur(opacity, (0, 0), edge / 2.5)[..., None]
    pasted = photo.copy()
    under = pasted[y : y + height, x : x + width]
    under[:] = np.rint(under * (1 - opacity) + resize(detail, (width, height)) * opacity).astype(np.uint8)
    return pasted, (x, y, x + width, y + height)


def _draw_photo(photos: Sequence[Path], rng: np.random.Generator) -> np.ndarray:
    """Return a random photo, RGB uint8, that opens and is large enough to show a detail."""
    for number in rng.permutation(len(photos)):
        try:
            photo = read_image(photos[number])
        except UnreadableImage as error:
            print(f"left out: {error}", flush=True)
            continue
        if min(photo.shape[:2]) >= 2 * LEAST:
            return photo
    folders = ", ".join(sorted({str(path.parent) for path in photos}))
    raise InputError(
        f"{folders}: none of {len(photos)} photos opens and has a shorter side of {2 * LEAST} pixels, to paste details "
        "into; name a folder of such photos in benchmarks.altered.hosts"
    )


def load(path: str | os.PathLike) -> tuple[AlteredQuery, ...]:
    """Read the queries of ``queries.json``, which lies beside their ``images``.

    Raises:
        InputError: when the file is missing or of another form.
    """
    images = Path(path).parent / "images"
    try:
        return tuple(
            AlteredQuery(
                file=images / entry["file"],
                query_box=tuple(entry["query_box"]) if entry["query_box"] else None,
                kind=entry["kind"],
                detail=entry["detail"],
                picture=entry["picture"],
                box=tuple(entry["box"]),
            )
            for entry in read_json(path)
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not the queries of altered details ({error!r}); remake the file") from None


# Predictions are judged

SCHEMA = pa.schema(
    [
        ("query", pa.int32()),
        ("picture", pa.string()),
        ("similarity", pa.float32()),
        ("score", pa.float32()),
        ("box", pa.list_(pa.float32(), 4)),
    ]
)
"""Rows of predictions: a place of a picture for a query, by its number. ``similarity`` is the score before the matcher
has looked, null where none looks; ``box`` is in pixels of the picture, null where nothing is found."""


def rank(scores: dict[str, float], right: str) -> int | None:
    """Return the rank of the right picture, from 1: pictures that score as high come first. None where it is absent."""
    if right not in scores:
        return None
    return sum(score >= scores[right] for score in scores.values())


def query_results(queries: Sequence[AlteredQuery], predictions: pa.Table) -> list[dict[str, Any]]:
    """Judge the predictions of every query.

    Returns:
        of each query ``query, kind, picture``; the ``rank`` of the right picture, and ``windows_rank`` by similarity
        (None where it is absent, or nothing is similar); the picture ``first`` by score with its ``first_box``; and
        ``box_iou``, of the best place in the right picture with the true one, whichever picture is first.

    Raises:
        InputError: when there are predictions of other queries, or none of one.
    """
    rows: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(queries))}
    for row in predictions.to_pylist():
        if row["query"] not in rows:
            raise InputError(f"predictions of query {row['query']}, of {len(queries)}; run the prediction again")
        rows[row["query"]].append(row)
    return [_judged(number, query, rows[number]) for number, query in enumerate(queries)]


def _judged(number: int, query: AlteredQuery, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not rows:
        raise InputError(f"no predictions of query {number} ({query.file}); run the prediction again")
    best = _best_places(rows, "score")
    windows = _best_places(rows, "similarity")
    own = best.get(query.picture)
    # Of equal scores the first by name, whether it is the right one or not.
    first = min(best.values(), key=lambda row: (-row["score"], row["picture"]))
    return {
        "query": number,
        "kind": query.kind,
        "picture": query.picture,
        "rank": rank({name: row["score"] for name, row in best.items()}, query.picture),
        "windows_rank": rank({name: row["similarity"] for name, row in windows.items()}, query.picture),
        "first": first["picture"],
        "first_box": first["box"],
        "box_iou": box_iou(own["box"], query.box) if own and own["box"] else 0.0,
    }


def _best_places(rows: Sequence[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    """Return of each picture the row that is best by a column, of equal ones the first."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row[key] is not None and (row["picture"] not in best or row[key] > best[row["picture"]][key]):
            best[row["picture"]] = row
    return best


def summarise(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the numbers of all queries and, with ``_<kind>``, of each kind.

    They are ``recall@1`` and ``@5`` (share of queries whose picture is among the first), ``mrr`` (mean of 1 / rank; 0
    where the picture is absent), both also with ``windows_`` (before the matcher), and the median ``box_iou``.
    """
    numbers: dict[str, float] = {"queries": len(results)}
    for kind in (None, *KINDS):
        own = [result for result in results if kind in (None, result["kind"])]
        if own:
            numbers |= {key + (f"_{kind}" if kind else ""): value for key, value in _numbers(own)}
    return numbers


def _numbers(results: Sequence[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    for prefix in ("", "windows_"):
        ranks = [result[f"{prefix}rank"] for result in results]
        if prefix and not any(ranks):
            continue
        for count, share in recall_at(ranks, (1, 5)).items():
            yield f"{prefix}recall@{count}", share
        yield f"{prefix}mrr", float(np.mean([1 / rank if rank else 0.0 for rank in ranks]))
    yield "box_iou", float(np.median([result["box_iou"] for result in results]))
