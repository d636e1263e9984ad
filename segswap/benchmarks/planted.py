"""A benchmark of details on real pictures, without labelling: objects of held-out photos planted in paintings.

An object is cut out of a photo and Poisson-blended into several paintings, at other sizes and angles, and each
painting is restyled as a whole. Where the object lies is known, so the labels have Brueghel's format, and everything
that runs on Brueghel runs on this.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import cv2
import numpy as np

from segswap.drawing import fit, write_picture
from segswap.errors import InputError
from segswap.files import whole_folder, write_json
from segswap.geometry import mask_box, warp_image
from segswap.images import read_image
from segswap.listing import list_images
from segswap.pairs.objects import ObjectTable
from segswap.pairs.recipe import Placement, Rejected
from segswap.pairs.render import Photos, blend_object, dilate, placement_matrix
from segswap.pairs.style import StyleStatistics, Stylist
from segswap.progress import progress
from segswap.randomness import generator

_ATTEMPTS = 200
"""Objects drawn for one detail before it is an error."""

_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class PlantedSettings:
    """How the benchmark is made.

    Attributes:
        details: objects, one category each.
        copies: paintings that show each.
        distractors: paintings that show none.
        size: longer side of the paintings in pixels.
        scale: bounds of the side of the square that a detail just fits, relative to the painting's shorter side.
        rotation: largest rotation in degrees, both ways.
        strength: bounds of the restyling's strength.
        dilation: city-block distance in pixels by which an object's mask grows, at the photo's own size.
    """

    details: int
    copies: int
    distractors: int
    size: int
    scale: Sequence[float]
    rotation: float
    strength: Sequence[float]
    dilation: int


def plant_details(
    photos: Photos,
    paintings: str | os.PathLike,
    stylist: Stylist | None,
    styles: StyleStatistics | None,
    folder: str | os.PathLike,
    settings: PlantedSettings,
    seed: int,
) -> None:
    """Make the benchmark: ``images/`` and ``labels.json`` in a folder, which appears whole.

    Paintings are taken in a random order, each once before one is taken again, then mirrored.

    Args:
        photos: of objects never used in training.
        paintings: folder of the pictures that details are planted in.
        stylist, styles: restyling; None for none.

    Raises:
        InputError: when there are too few objects large enough, or no painting.
    """
    pictures = list_images(paintings)
    order = generator(seed, "planted paintings").permutation(len(pictures))
    labels: dict[str, list[dict]] = {}
    taken = 0

    def next_painting() -> np.ndarray:
        nonlocal taken
        again, place = divmod(taken, len(pictures))
        taken += 1
        painting = fit(read_image(pictures[order[place]]), settings.size)
        return cv2.flip(painting, 1) if again % 2 else painting

    with whole_folder(folder) as temporary:
        used: set[int] = set()
        for detail in progress(range(settings.details), "planted details"):
            row = _draw_object(photos, settings, seed, detail, used)
            name = f"detail-{detail + 1:02d}"
            shown = []
            for copy in range(settings.copies):
                rng = generator(seed, "planted", detail, copy)
                painting, box = plant(photos, row, next_painting(), settings, rng)
                file = f"{name}-{copy + 1:02d}.jpg"
                picture = _restyled(painting, stylist, styles, settings, rng)
                write_picture(temporary / "images" / file, picture, _QUALITY)
                shown.append([file, box])
            labels[name] = [{"query": one, "gt": [other for other in shown if other is not one]} for one in shown]
        for number in progress(range(settings.distractors), "other pictures"):
            rng = generator(seed, "planted distractor", number)
            picture = _restyled(next_painting(), stylist, styles, settings, rng)
            write_picture(temporary / "images" / f"other-{number + 1:02d}.jpg", picture, _QUALITY)
        write_json(temporary / "labels.json", labels)


def _draw_object(photos: Photos, settings: PlantedSettings, seed: int, detail: int, used: set[int]) -> int:
    """Draw the object of a detail, a row of the table: of a photo not used before, and whole."""
    rng = generator(seed, "planted object", detail)
    for _ in range(_ATTEMPTS):
        row = int(rng.choice(photos.table.objects_of(int(rng.choice(photos.table.categories)))))
        image = photos.table.image_of(row)
        if image not in used and _is_whole(photos.table, row):
            try:
                photos.read(image)
            except Rejected:
                continue
            used.add(image)
            return row
    raise InputError(
        f"planted detail {detail + 1}: {_ATTEMPTS} draws gave no object of an unused photo that is large and does not "
        "touch the border; lower benchmarks.planted.details, or give more held-out photos"
    )


def _is_whole(table: ObjectTable, row: int) -> bool:
    """Return whether an object is in full view and large enough to be known again."""
    mask = table.mask(row)
    x1, y1, x2, y2 = mask_box(mask)
    inside = x1 > 2 and y1 > 2 and x2 < mask.shape[1] - 2 and y2 < mask.shape[0] - 2
    return inside and min(x2 - x1, y2 - y1) >= 48


def plant(
    photos: Photos, row: int, painting: np.ndarray, settings: PlantedSettings, rng: np.random.Generator
) -> tuple[np.ndarray, list[int]]:
    """Plant an object in a painting, RGB uint8 (H, W, 3).

    Returns:
        the new picture and the object's box [x1, y1, x2, y2] in it.

    Raises:
        InputError: when the object is too small there to be blended.
    """
    photo = photos.read(photos.table.image_of(row))
    own = photos.table.mask(row)
    mask = dilate(own, settings.dilation) * 255
    height, width = painting.shape[:2]
    # The place is drawn as in the pairs: the object just fits a square of the wanted size somewhere in the painting.
    side = max(3, round(float(rng.uniform(*settings.scale)) * min(height, width)))
    left, top = (int(rng.integers(0, room - side + 1)) for room in (width, height))
    angle = float(rng.uniform(-settings.rotation, settings.rotation))
    placement = Placement(photos.table.annotation_of(row), 1.0, 1.0, angle, 1.0, 0.5, 0.5)
    matrix = placement_matrix(mask, placement, (left, top, left + side, top + side))
    planted = painting.copy()
    try:
        blend_object(photo, planted, mask, matrix)
    except Rejected as reason:
        raise InputError(
            f"an object planted in {side} x {side} pixels: {reason}; raise benchmarks.planted.scale or size"
        ) from None
    alpha = warp_image(own * 255, matrix, (width, height), cv2.BORDER_CONSTANT)
    return planted, list(mask_box(alpha >= 128))


def _restyled(
    picture: np.ndarray,
    stylist: Stylist | None,
    styles: StyleStatistics | None,
    settings: PlantedSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    if stylist is None or styles is None:
        return picture
    name = styles.names[rng.integers(len(styles.names))]
    return stylist.stylise([picture], [styles.of(name)], [float(rng.uniform(*settings.strength))])[0]
