"""The demo world's Internet (ObjectDiscovery): pictures of an airplane, a car or a horse, and noise.

The method finds what pictures have in common by correspondence, so all pictures of a class show one figure
with the same pattern and marks, in other colours and light, at other sizes and places, on other grounds.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import cv2
import numpy as np

from segswap.demo_world.figures import draw_figure
from segswap.demo_world.scenes import Placed, draw_background, paint_sprite, place_inside, restyle, to_uint8
from segswap.demo_world.sprites import CATEGORIES, Sprite, draw_sprite
from segswap.errors import InputError
from segswap.files import whole_folder, write_bytes
from segswap.images import encode_jpeg
from segswap.progress import progress
from segswap.randomness import generator

CLASSES = {"Airplane100": "airplane", "Car100": "car", "Horse100": "horse"}
"""Folders of the published set, and the figure that each shows."""

SHAPES = ((176, 224), (184, 208), (192, 192), (200, 224), (208, 192))
"""Heights and widths of the pictures, in pixels."""

SHARES = (0.155, 0.35)
"""Bounds of the share of a picture that the figure is to cover; one too long for the picture covers less."""

ROTATION = 12.0
"""Largest rotation of a figure in degrees, both ways."""


def light(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw a light that falls off to one side, float32 (H, W, 1), about 1."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35)
    across = (np.cos(angle) * (x / shape[1] - 0.5) + np.sin(angle) * (y / shape[0] - 0.5))[..., None]
    return rng.uniform(0.85, 1.1) + 2 * strength * across


def compose(rng: np.random.Generator, figure: Sprite) -> tuple[np.ndarray, Placed]:
    """Compose a picture of a figure: RGB uint8 (H, W, 3), and where the figure lies."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    scene = draw_background(rng, shape)
    share = (figure.mask() > 0).mean()
    size = math.sqrt(rng.uniform(*SHARES) * shape[0] * shape[1] / share)
    placed = place_inside(rng, figure, shape, size, rng.uniform(-ROTATION, ROTATION))
    coloured = dataclasses.replace(figure, rgb=restyle(rng, figure.rgb, (0.1, 0.75)))
    scene = paint_sprite(scene, dataclasses.replace(placed, sprite=coloured)) * light(rng, shape)
    return to_uint8(restyle(rng, np.clip(scene, 0, 1), (0.0, 0.7))), placed


def compose_noise(rng: np.random.Generator) -> np.ndarray:
    """Compose a picture without a figure, RGB uint8 (H, W, 3): a ground and one or two other objects."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    scene = draw_background(rng, shape)
    for kind in rng.choice(len(CATEGORIES), int(rng.integers(1, 3)), replace=False):
        size = rng.uniform(0.4, 0.7) * min(shape)
        sprite = draw_sprite(rng, CATEGORIES[kind])
        scene = paint_sprite(scene, place_inside(rng, sprite, shape, size, rng.uniform(-ROTATION, ROTATION)))
    scene = scene * light(rng, shape)
    return to_uint8(restyle(rng, np.clip(scene, 0, 1), (0.0, 0.7)))


def draw_internet(folder: str | os.PathLike, seed: int, n_images: int, n_noise: int) -> None:
    """Write a folder per class of ``CLASSES``: ``*.jpg`` and ``GroundTruth/*.png``, masks of 0 and 255.

    Args:
        n_images: pictures of the figure in each class.
        n_noise: pictures without it in each class; their masks are black.

    Raises:
        InputError: when a class would have fewer than three pictures, too few for a correspondence graph.
    """
    if n_images + n_noise < 3:
        raise InputError(f"{n_images} images and {n_noise} of noise in a class: set at least 3 together")
    with whole_folder(folder) as temporary:
        for name, figure_name in CLASSES.items():
            figure = draw_figure(generator(seed, "internet figure", name), figure_name)
            for number in progress(range(n_images), name):
                picture, placed = compose(generator(seed, "internet", name, number), figure)
                _write(temporary / name, f"{number + 1:04d}", picture, placed.mask(picture.shape[:2]))
            for number in progress(range(n_noise), f"{name} (noise)"):
                picture = compose_noise(generator(seed, "internet noise", name, number))
                _write(temporary / name, f"noise_{number + 1:03d}", picture, np.zeros(picture.shape[:2], np.uint8))


def _write(folder: Path, stem: str, picture: np.ndarray, mask: np.ndarray) -> None:
    write_bytes(folder / f"{stem}.jpg", encode_jpeg(picture))
    ok, data = cv2.imencode(".png", mask)
    if not ok:
        raise ValueError(f"PNG encoding failed for a mask of shape {mask.shape}, {mask.dtype}")
    write_bytes(folder / "GroundTruth" / f"{stem}.png", data.tobytes())
