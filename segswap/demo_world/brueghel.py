"""The demo world's Brueghel: paintings that share details, in the folder layout and label format of the real set.

A detail is one drawn sprite. It recurs in several paintings, in other colours, at another scale, turned a
little, on other grounds, sometimes beside a second detail. Distractors hold sprites of the same kinds, so it
is the instance that must be found and not the kind.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence

import cv2
import numpy as np

from segswap.demo_world.scenes import (
    Placed,
    draw_background,
    paint_sprite,
    place_inside,
    restyle,
    to_uint8,
)
from segswap.demo_world.sprites import CATEGORIES, Sprite, draw_sprite
from segswap.errors import InputError
from segswap.files import whole_folder, write_bytes, write_json
from segswap.images import encode_jpeg
from segswap.progress import progress
from segswap.randomness import generator

SHAPES = ((160, 208), (208, 160), (176, 176), (168, 240), (240, 176), (192, 224))
"""Heights and widths of the paintings, in pixels."""

DETAIL_SIZE = 0.33
"""Usual length of a detail's longer side, relative to the painting's mean side."""

SCALES = (0.8, 1.5)
"""Bounds of a detail's scale relative to its usual size."""

ROTATION = 12.0
"""Largest rotation of a detail in degrees, both ways."""

SHARED = 0.3
"""Chance that a painting of the first detail of a couple holds the second one, too."""

_TITLES = (
    'Hans & Anna, "The Fair"',
    "A Woodland Road",
    "Allegory of Air & Fire",
    "Flowers in a Vase, v.2",
    "The Bird Trap",
    'Harbour, called "The Calm"',
    "Noah's Garden",
)
_PLACES = ("Antwerp", "Christie's, London", "St. Petersburg", "Budapest, inv. 12.7", "Dessau & Halle", "unknown")


@dataclasses.dataclass(frozen=True)
class Painting:
    """What a painting holds: its title's number, its address, and the labelled or other sprites on it."""

    number: str
    address: tuple[str | int, ...]
    details: tuple[int, ...]


def detail_category(seed: int, detail: int) -> tuple[int, str]:
    """Return the kind (position in ``CATEGORIES``) and the label, for example ``star-1``, of a detail.

    Every kind comes once before one comes again.
    """
    kinds = generator(seed, "brueghel kinds").permutation(len(CATEGORIES))
    kind = int(kinds[detail % len(kinds)])
    return kind, f"{CATEGORIES[kind].name}-{detail // len(kinds) + 1}"


def draw_detail(seed: int, detail: int) -> Sprite:
    """Draw the sprite of a detail."""
    return draw_sprite(generator(seed, "brueghel detail", detail), CATEGORIES[detail_category(seed, detail)[0]])


def plan_paintings(seed: int, n_details: int, copies: int) -> list[Painting]:
    """Return the paintings that hold details; each of the details is in ``copies`` of them.

    Details 0 and 1, 2 and 3, ... are couples that sometimes share a painting. Whether they do depends on the
    couple and the copy alone, so more details or copies leave the other paintings as they are.
    """
    paintings = []
    for detail, copy in itertools.product(range(n_details), range(copies)):
        shared = generator(seed, "brueghel shared", detail // 2, copy).uniform() < SHARED
        if shared and detail % 2:
            continue
        held = (detail, detail + 1) if shared else (detail,)
        paintings.append(Painting(f"{detail + 1}.{copy + 1}", ("brueghel painting", detail, copy), held))
    return paintings


def paint(
    rng: np.random.Generator, sprites: Sequence[Sprite], scales: tuple[float, float] = SCALES
) -> tuple[np.ndarray, list[Placed]]:
    """Paint sprites, apart from each other, on a new ground, and give the whole other colours.

    Returns:
        the painting, RGB uint8 (H, W, 3), and where the sprites lie, in their order.
    """
    shape = SHAPES[rng.integers(len(SHAPES))]
    scene = draw_background(rng, shape)
    placed: list[Placed] = []
    for sprite, place in zip(sprites, _places_apart(rng, sprites, shape, scales), strict=True):
        # A painter's own colours for the detail, then the painting's for everything.
        coloured = dataclasses.replace(sprite, rgb=restyle(rng, sprite.rgb, (0.0, 0.6)))
        scene = paint_sprite(scene, dataclasses.replace(place, sprite=coloured))
        placed.append(place)
    return to_uint8(restyle(rng, scene, (0.3, 1.0))), placed


def _places_apart(
    rng: np.random.Generator, sprites: Sequence[Sprite], shape: tuple[int, int], scales: tuple[float, float]
) -> list[Placed]:
    """Draw places of sprites until no two of them touch; each round of failures makes them smaller."""
    for shrink in 0.98 ** np.arange(150):
        placed, taken = [], np.zeros(shape, np.uint8)
        for sprite in sprites:
            scale = np.exp(rng.uniform(*np.log(scales)))
            longer = float(np.ptp(np.concatenate(sprite.parts), axis=0).max())
            size = shrink * scale * DETAIL_SIZE * np.sqrt(shape[0] * shape[1]) / longer
            placed.append(place_inside(rng, sprite, shape, size, rng.uniform(-ROTATION, ROTATION)))
            taken += cv2.dilate(placed[-1].mask(shape), np.ones((5, 5), np.uint8)) // 255
        if taken.max() <= 1:
            return placed
    raise ValueError(f"{len(sprites)} sprites find no room in {shape[0]} x {shape[1]} pixels")


def published_box(placed: Placed, shape: tuple[int, int]) -> list[int]:
    """Return a sprite's box in whole pixels of a painting of (H, W): [x1, y1, x2, y2]."""
    low = np.maximum(np.floor(placed.box[:2]), 0)
    high = np.minimum(np.ceil(placed.box[2:]), shape[::-1])
    return [*low.astype(int).tolist(), *high.astype(int).tolist()]


def _name(seed: int, number: str, address: tuple[str | int, ...]) -> str:
    """Return a file name as awkward as the published ones; the number makes it the only one."""
    rng = generator(seed, "title", *address)
    return f"{_TITLES[rng.integers(len(_TITLES))]} ({_PLACES[rng.integers(len(_PLACES))]}, no. {number}).jpg"


def labels_of(appearances: dict[str, list[tuple[str, list[int]]]]) -> dict[str, list[dict]]:
    """Return labels in the published format: each appearance is a query, all others of its category its truth.

    Args:
        appearances: by category, the image and box of each.
    """
    return {
        category: [
            {"query": list(query), "gt": [list(other) for other in found if other[0] != query[0]]} for query in found
        ]
        for category, found in appearances.items()
    }


def draw_brueghel(folder: str | os.PathLike, seed: int, n_details: int, copies: int, n_distractors: int) -> None:
    """Write ``images/*.jpg`` and ``labels.json``, ``{category: [{"query": [image, box], "gt": [...]}, ...]}``.

    Args:
        n_details: distinct details, each a category of its own.
        copies: paintings that hold a detail, at least 2; some hold two details.
        n_distractors: paintings with other sprites of the same kinds.

    Raises:
        InputError: when there would be no detail, or no truth for a query.
    """
    if n_details < 1:
        raise InputError(f"{n_details} details: no query to search for; set at least 1")
    if copies < 2:
        raise InputError(f"{copies} copies of a detail: a query needs a truth in another painting; set at least 2")
    sprites = {detail: draw_detail(seed, detail) for detail in range(n_details + n_details % 2)}
    appearances: dict[str, list[tuple[str, list[int]]]] = {
        detail_category(seed, detail)[1]: [] for detail in range(n_details)
    }
    with whole_folder(folder) as temporary:
        for painting in progress(plan_paintings(seed, n_details, copies), "paintings with details"):
            rng = generator(seed, *painting.address)
            picture, placed = paint(rng, [sprites[detail] for detail in painting.details])
            name = _name(seed, painting.number, painting.address)
            write_bytes(temporary / "images" / name, encode_jpeg(picture))
            for detail, place in zip(painting.details, placed, strict=True):
                # The second of a couple is painted even where it is no detail of this set.
                if detail < n_details:
                    box = published_box(place, picture.shape[:2])
                    appearances[detail_category(seed, detail)[1]].append((name, box))
        for number in progress(range(n_distractors), "other paintings"):
            rng = generator(seed, "brueghel distractor", number)
            kinds = rng.choice(len(CATEGORIES), int(rng.integers(1, 4)), replace=False)
            picture, _ = paint(rng, [draw_sprite(rng, CATEGORIES[kind]) for kind in kinds])
            name = _name(seed, f"d.{number + 1}", ("brueghel distractor", number))
            write_bytes(temporary / "images" / name, encode_jpeg(picture))
        write_json(temporary / "labels.json", labels_of(appearances))
