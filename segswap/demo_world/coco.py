"""The demo world's photos: drawn scenes with instance annotations, written as a COCO data set."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from segswap.demo_world.scenes import (
    Placed,
    draw_background,
    draw_mood,
    locate_sprite,
    paint_sprite,
    sprite_matrix,
    to_uint8,
)
from segswap.demo_world.sprites import CATEGORIES, draw_sprite
from segswap.demo_world.textures import random_palette, random_texture
from segswap.files import whole_folder, write_bytes, write_json
from segswap.geometry import mask_box
from segswap.images import encode_jpeg
from segswap.progress import progress
from segswap.randomness import generator
from segswap.workers import process_pool

SHAPES = ((176, 256), (256, 176), (208, 208), (192, 240))
"""Heights and widths of the scenes, in pixels."""


def draw_scene(
    rng: np.random.Generator, shape: tuple[int, int], n_objects: int
) -> tuple[np.ndarray, list[Placed], np.ndarray]:
    """Draw a scene with up to ``n_objects`` sprites that do not overlap.

    Returns the picture (float32), what was placed, and the pixels that are taken, bool (H, W).
    """
    scene = draw_background(rng, shape)
    taken = np.zeros(shape, bool)
    placed: list[Placed] = []
    chosen = rng.choice(len(CATEGORIES), n_objects, replace=n_objects > len(CATEGORIES))
    for category in chosen:
        sprite = draw_sprite(rng, CATEGORIES[category])
        for _ in range(25):
            size = rng.uniform(0.5, 0.85) * min(shape)
            centre = rng.uniform(0.35 * size, shape[1] - 0.35 * size), rng.uniform(0.35 * size, shape[0] - 0.35 * size)
            candidate = locate_sprite(sprite, sprite_matrix(centre, size, rng.uniform(-25, 25)))
            mask = candidate.mask(shape) > 0
            if not (mask & taken).any():
                grown = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
                scene, taken = paint_sprite(scene, candidate), taken | grown
                placed.append(candidate)
                break
    return scene, placed, taken


def draw_crowd(rng: np.random.Generator, scene: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scatter pebbles over the free pixels of a scene; return the picture and the crowd's mask, bool (H, W)."""
    shape = scene.shape[:2]
    mask = np.zeros(shape, np.uint8)
    for _ in range(25):
        x, y = rng.integers(0, shape[1]), rng.integers(0, shape[0])
        cv2.circle(mask, (int(x), int(y)), int(rng.integers(3, 7)), 1, -1)
    crowd = (mask > 0) & free
    pebbles = random_texture(rng, shape, random_palette(rng), "patches", 8)
    return np.where(crowd[..., None], pebbles, scene), crowd


def _annotation(placed: Placed, shape: tuple[int, int], as_rle: bool) -> dict[str, Any]:
    """Return a sprite's COCO annotation: polygons of its parts, or a run-length encoding."""
    mask = placed.mask(shape) > 0
    if as_rle or placed.holes:
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        segmentation: Any = {"size": list(shape), "counts": encoded["counts"].decode()}
    else:
        segmentation = [np.round(part, 2).ravel().tolist() for part in placed.parts]
    names = [category.name for category in CATEGORIES]
    return {
        "category_id": names.index(placed.sprite.category) + 1,
        "segmentation": segmentation,
        "area": float(mask.sum()),
        "bbox": _box(mask),
        "iscrowd": 0,
    }


def _box(mask: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = mask_box(mask)
    return [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]


def _crowd_annotation(mask: np.ndarray, category_id: int) -> dict[str, Any]:
    """Return a crowd's annotation: run lengths as numbers, column by column, as COCO writes crowds."""
    column_major = mask.ravel(order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(column_major)) + 1
    edges = np.concatenate([[0], changes, [mask.size]])
    counts = np.diff(edges).tolist()
    if column_major[0]:
        counts = [0, *counts]
    return {
        "category_id": category_id,
        "segmentation": {"size": list(mask.shape), "counts": counts},
        "area": float(mask.sum()),
        "bbox": _box(mask),
        "iscrowd": 1,
    }


def _draw_image(seed: int, split: str, n_images: int, number: int) -> tuple[bytes, tuple[int, int], list[dict]]:
    """Draw one scene; return its file's bytes, its (H, W) and its annotations without ids."""
    rng = generator(seed, "scene", split, number)
    shape = SHAPES[rng.integers(len(SHAPES))]
    scene, placed, taken = draw_scene(rng, shape, int(rng.integers(2, 5)))
    found = [_annotation(p, shape, as_rle=rng.uniform() < 0.2) for p in placed]
    if rng.uniform() < 0.1:
        scene, crowd = draw_crowd(rng, scene, ~taken)
        if crowd.any():
            found.append(_crowd_annotation(crowd, int(rng.integers(len(CATEGORIES))) + 1))
    picture = encode_jpeg(to_uint8(scene))
    if number == n_images // 2:
        picture = picture[: len(picture) // 3]
    return picture, shape, found


def draw_coco(folder: str | os.PathLike, seed: int, split: str, n_images: int, workers: int = 1) -> None:
    """Write a data set of drawn scenes: ``images/*.jpg`` and ``annotations.json``.

    As in real data, some scenes hold a crowd, some masks are run-length encoded, some have several parts;
    one annotation has an empty polygon and one image file is cut short.

    Args:
        workers: processes that draw side by side; the result does not depend on it.
    """
    images, annotations = [], []
    draw = partial(_draw_image, seed, split, n_images)
    with whole_folder(folder) as temporary, process_pool(workers, "lower --workers") as pool:
        (temporary / "images").mkdir()
        drawn = pool.map(draw, range(n_images), chunksize=16)
        for number, (picture, shape, found) in enumerate(progress(drawn, f"scenes ({split})", total=n_images), 1):
            name = f"{number:012d}.jpg"
            (temporary / "images" / name).write_bytes(picture)
            images.append({"id": number, "file_name": name, "width": shape[1], "height": shape[0], "license": 1})
            for annotation in found:
                annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
        annotations[len(annotations) // 3]["segmentation"] = [[]]
        write_json(
            temporary / "annotations.json",
            {
                "info": {"description": f"SegSwap demo world, {split}, seed {seed}"},
                "licenses": [{"id": 1, "name": "CC0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
                "images": images,
                "annotations": annotations,
                "categories": [{"id": n + 1, "name": c.name} for n, c in enumerate(CATEGORIES)],
            },
        )


def draw_style_images(folder: str | os.PathLike, seed: int, n_images: int) -> None:
    """Write style images: fields of few strong colours, each folder entry with a mood of its own."""
    with whole_folder(folder) as temporary:
        for number in progress(range(n_images), "style images"):
            rng = generator(seed, "style image", number)
            picture = encode_jpeg(to_uint8(draw_mood(rng, (160, 200))))
            write_bytes(Path(temporary) / f"style-{number:03d}.jpg", picture)
