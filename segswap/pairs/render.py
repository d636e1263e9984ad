"""Rendering a recipe: masks, matrices and labels first (they decide whether a draw is used), then the pictures.

No random number is drawn here. Source pixels are resampled once, by the whole matrix, and the mask by the
same warp, so the pasted object lies exactly where mask and matrix say.
"""

from __future__ import annotations

import dataclasses
import math
import os
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from segswap.errors import InputError
from segswap.geometry import (
    correspondence_map,
    cycle_consistent_masks,
    mask_box,
    mask_to_cells,
    rotation_matrix,
    scale_matrix,
    shift_matrix,
    transform,
    warp_image,
)
from segswap.images import UnreadableImage, read_image, resize
from segswap.pairs.blending import blend
from segswap.pairs.objects import ObjectTable
from segswap.pairs.poisson import TooThin
from segswap.pairs.recipe import PairRecipe, PairSettings, Placement, Rejected, draw_recipe, layout_boxes
from segswap.pairs.sources import photo_path
from segswap.randomness import generator


@dataclasses.dataclass(frozen=True)
class Labels:
    """What training learns from; cells and coordinates as in ``segswap.geometry``.

    Attributes:
        mask_a, mask_b: float32 (h, w) in [0, 1].
        corr_a, corr_b: float32 (2, h, w), normalised (x, y) in the other image.
    """

    mask_a: np.ndarray
    mask_b: np.ndarray
    corr_a: np.ndarray
    corr_b: np.ndarray


@dataclasses.dataclass(frozen=True)
class PairGeometry:
    """Where everything of a pair lies.

    Attributes:
        source_box: part (x1, y1, x2, y2) of the source photo, in its pixels, that becomes image a.
        masks: one per object, dilated, uint8 (S, S) of 0 to 255, in image a.
        matrices: one per object, pixels of image a to pixels of image b.
        labels: masks and maps at cells.
    """

    source_box: tuple[int, int, int, int]
    masks: tuple[np.ndarray, ...]
    matrices: tuple[np.ndarray, ...]
    labels: Labels


@dataclasses.dataclass(frozen=True)
class Pair:
    """A rendered pair: recipe, labels and the pictures a (source) and b (target), RGB uint8 (S, S, 3)."""

    recipe: PairRecipe
    geometry: PairGeometry
    a: np.ndarray
    b: np.ndarray


class Photos:
    """The photos of an object table, read by image id; the last few stay in memory.

    Attributes:
        folders: of the photos: one, or of a joined table those of its sources in order (``sources.photo_path``).
        unreadable: message by image id, of photos that did not open or have another size than the table says.
    """

    def __init__(self, table: ObjectTable, *folders: str | os.PathLike) -> None:
        self.table = table
        self.folders = tuple(map(Path, folders))
        self.unreadable: dict[int, str] = {}
        self._read = lru_cache(maxsize=8)(self._read_photo)

    def _path(self, image_id: int) -> Path:
        return photo_path(self.folders, self.table.file_name(image_id))

    def _read_photo(self, image_id: int) -> np.ndarray:
        path = self._path(image_id)
        image = read_image(path)
        expected = self.table.image_shape(image_id)
        if image.shape[:2] != expected:
            raise UnreadableImage(
                f"{path}: {image.shape[1]} x {image.shape[0]} pixels, "
                f"annotated as {expected[1]} x {expected[0]}; masks would not fit"
            )
        return image

    def read(self, image_id: int) -> np.ndarray:
        """Return a photo, RGB uint8 (H, W, 3).

        Raises:
            Rejected: when it cannot be used; ``unreadable`` then names it.
        """
        if image_id not in self.unreadable:
            try:
                return self._read(image_id)
            except UnreadableImage as error:
                # By its name in the table: what a shard records must not depend on where the photos lie.
                reason = str(error).removeprefix(str(self._path(image_id)))
                self.unreadable[image_id] = f"{self.table.file_name(image_id)}{reason}"
        raise Rejected("photo unreadable")


def dilate(mask: np.ndarray, distance: int) -> np.ndarray:
    """Grow a mask, uint8 (H, W) of 0 and 1, to all pixels within a city-block distance of it."""
    if distance == 0:
        return mask
    return (cv2.distanceTransform(1 - mask, cv2.DIST_L1, 3) <= distance).astype(np.uint8)


def nearest_border_crop(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box (x1, y1, x2, y2) that cuts the image at the object, on the side nearest to it."""
    height, width = mask.shape
    x1, y1, x2, y2 = mask_box(mask)
    gaps = {"left": x1, "top": y1, "right": width - x2, "bottom": height - y2}
    side = min(gaps, key=lambda name: gaps[name])
    return (
        x1 if side == "left" else 0,
        y1 if side == "top" else 0,
        x2 if side == "right" else width,
        y2 if side == "bottom" else height,
    )


def placement_matrix(mask: np.ndarray, placement: Placement, box: tuple[int, int, int, int]) -> np.ndarray:
    """Return the matrix that carries the object of image a into its box of image b.

    The chain of the paper: stretch, rotate on an expanded canvas, crop to the mask's box, scale to ``fit``
    times the largest size that fits, paste.

    Args:
        mask: uint8 (S, S), above 0 where the object is.
        placement: the object's choices.
        box: (x1, y1, x2, y2) in pixels of image b.
    """
    size = mask.shape[1], mask.shape[0]
    stretched = size[0] * placement.stretch_x, size[1] * placement.stretch_y
    matrix = rotation_matrix(stretched, placement.angle) @ scale_matrix(placement.stretch_x, placement.stretch_y)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    pixels = np.concatenate(contours).reshape(-1, 2).astype(float)
    corners = np.concatenate([pixels + offset for offset in ((0, 0), (1, 0), (0, 1), (1, 1))])
    points = transform(matrix, corners)
    low, high = np.floor(points.min(0)), np.ceil(points.max(0))
    room = np.array([box[2] - box[0], box[3] - box[1]], float)
    scale = placement.fit * (room / (high - low)).min()
    free = room - scale * (high - low)
    corner = np.array(box[:2]) + free * (placement.position_x, placement.position_y)
    return shift_matrix(*corner) @ scale_matrix(scale, scale) @ shift_matrix(*-low) @ matrix


def _object_labels(mask: np.ndarray, matrix: np.ndarray) -> Labels:
    size = mask.shape[1], mask.shape[0]
    corr_a = correspondence_map(matrix, size, size)
    corr_b = correspondence_map(np.linalg.inv(matrix), size, size)
    mask_a, mask_b = cycle_consistent_masks(mask_to_cells(mask / np.float32(255)), corr_a, corr_b)
    return Labels(mask_a, mask_b, corr_a.astype(np.float32), corr_b.astype(np.float32))


def _joined_labels(parts: list[Labels]) -> Labels:
    """Join the labels of objects that do not touch: masks add, each cell takes its own object's map."""
    if len(parts) == 1:
        return parts[0]

    def joined_map(maps: list[np.ndarray], masks: list[np.ndarray]) -> np.ndarray:
        return sum(np.where(mask > 0, corr, 0) for corr, mask in zip(maps, masks, strict=True))

    masks_a, masks_b = [p.mask_a for p in parts], [p.mask_b for p in parts]
    return Labels(
        sum(masks_a),
        sum(masks_b),
        joined_map([p.corr_a for p in parts], masks_a).astype(np.float32),
        joined_map([p.corr_b for p in parts], masks_b).astype(np.float32),
    )


def pair_geometry(table: ObjectTable, settings: PairSettings, recipe: PairRecipe) -> PairGeometry:
    """Return where everything of a recipe's pair lies.

    Raises:
        Rejected: when the dilated masks of two objects overlap in the source, when the final masks touch,
            or when a final mask is smaller than ``settings.min_cells``.
    """
    size = settings.size
    rows = [table.row_of(recipe.source_image_id, placement.annotation_id) for placement in recipe.placements]
    full = [dilate(table.mask(row), settings.dilation) for row in rows]
    if len(full) > 1 and (full[0] & full[1]).any():
        raise Rejected("objects overlap")
    height, width = full[0].shape
    box = nearest_border_crop(full[0]) if recipe.crop else (0, 0, width, height)
    masks = [resize(mask[box[1] : box[3], box[0] : box[2]] * 255, (size, size)) for mask in full]
    # Cycle consistency only takes away from a mask: what is too small already need not be placed.
    if any(mask_to_cells(mask).sum() < 255 * max(settings.min_cells, 1) for mask in masks):
        raise Rejected("mask too small")
    boxes = layout_boxes(recipe.layout, size) if recipe.layout >= 0 else [(0, 0, size, size)]
    matrices = [
        placement_matrix(mask, placement, target)
        for mask, placement, target in zip(masks, recipe.placements, boxes, strict=True)
    ]
    parts = [_object_labels(mask, matrix) for mask, matrix in zip(masks, matrices, strict=True)]
    if any(part.mask_a.sum() < settings.min_cells or part.mask_b.sum() < settings.min_cells for part in parts):
        raise Rejected("mask too small")
    if len(parts) > 1:
        for first, second in ((parts[0].mask_a, parts[1].mask_a), (parts[0].mask_b, parts[1].mask_b)):
            if (first * second).any():
                raise Rejected("masks touch")
    return PairGeometry(box, tuple(masks), tuple(matrices), _joined_labels(parts))


def blend_object(a: np.ndarray, b: np.ndarray, mask: np.ndarray, matrix: np.ndarray, blending: str = "poisson") -> None:
    """Blend the masked object of a into b, in place; only its own part of both pictures is touched.

    Args:
        a, b: RGB uint8 (H, W, 3).
        mask: of the object in a, uint8 (H, W).
        matrix: pixels of a to pixels of b.
        blending: ``poisson`` or ``paste``.

    Raises:
        Rejected: when it is too thin to blend.
    """
    # The margin holds what smoothing and sampling near the object's edge reach.
    margin = 4 + math.ceil(2 / math.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    box = np.array(mask_box(mask)) + (-margin, -margin, margin, margin)
    x1, y1, x2, y2 = np.clip(box, 0, mask.shape[::-1] * 2).tolist()
    corners = transform(matrix, np.array([(x1, y1), (x2, y1), (x1, y2), (x2, y2)], float))
    low = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(0)), (b.shape[1], b.shape[0])).astype(int)
    part = shift_matrix(*-low) @ matrix @ shift_matrix(x1, y1)
    size = tuple((high - low).tolist())
    alpha = warp_image(mask[y1:y2, x1:x2], part, size, cv2.BORDER_CONSTANT)
    source = warp_image(a[y1:y2, x1:x2], part, size, cv2.BORDER_REFLECT)
    place = np.s_[low[1] : high[1], low[0] : high[0]]
    try:
        b[place] = blend(source, b[place], alpha >= 128, blending)
    except TooThin:
        raise Rejected("pasted mask too thin") from None


def render(photos: Photos, settings: PairSettings, recipe: PairRecipe, geometry: PairGeometry) -> Pair:
    """Render the pictures of a pair.

    Raises:
        Rejected: when a photo is unreadable or an object too thin to blend.
    """
    size = settings.size, settings.size
    x1, y1, x2, y2 = geometry.source_box
    a = resize(photos.read(recipe.source_image_id)[y1:y2, x1:x2], size)
    b = resize(photos.read(recipe.target_image_id), size).copy()
    for mask, matrix in zip(geometry.masks, geometry.matrices, strict=True):
        blend_object(a, b, mask, matrix, settings.blending)
    return Pair(recipe, geometry, a, b)


def make_pair(photos: Photos, settings: PairSettings, seed: int, kind: str, index: int) -> Pair:
    """Draw and render the pair of an address: draws are repeated until one makes a usable pair.

    Raises:
        InputError: when no draw of ``settings.max_attempts`` was usable; the message counts the reasons.
    """
    rng = generator(seed, "pair", kind, index)
    rejected: list[str] = []
    while len(rejected) < settings.max_attempts:
        try:
            recipe = draw_recipe(photos.table, settings, rng, (seed, kind, index), rejected)
            return render(photos, settings, recipe, pair_geometry(photos.table, settings, recipe))
        except Rejected as reason:
            rejected.append(str(reason))
    counts = {reason: rejected.count(reason) for reason in sorted(set(rejected))}
    raise InputError(
        f"pair {kind} {index}: {len(rejected)} draws and none usable ({counts}); objects may be too small for "
        f"images of {settings.size} pixels: see pairs.min_cells, pairs.dilation and objects.min_area_share"
    )
