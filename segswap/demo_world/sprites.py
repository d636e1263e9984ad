"""Drawn objects: eight categories, each with its own outline, hues, pattern and parts; no two instances alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from segswap.demo_world.textures import random_palette, random_texture

Polygon = np.ndarray
"""Corner points in the unit square, float64 (n, 2), x to the right and y down."""

SPRITE_SIZE = 144


@dataclasses.dataclass(frozen=True)
class Sprite:
    """A drawn object on its own canvas.

    Attributes:
        category: its name.
        rgb: float32 (SPRITE_SIZE, SPRITE_SIZE, 3) in [0, 1].
        parts: outlines of its parts in the unit square; together they are its mask.
        holes: outlines of holes (an object with a hole cannot be written as polygons).
    """

    category: str
    rgb: np.ndarray
    parts: tuple[Polygon, ...]
    holes: tuple[Polygon, ...] = ()

    def mask(self) -> np.ndarray:
        """Return the mask, uint8 (SPRITE_SIZE, SPRITE_SIZE) of 0 and 255."""
        return fill(self.parts, self.holes, (SPRITE_SIZE, SPRITE_SIZE))


def fill(parts: tuple[Polygon, ...], holes: tuple[Polygon, ...], shape: tuple[int, int]) -> np.ndarray:
    """Fill polygons of the unit square on a canvas, uint8 of 0 and 255."""
    canvas = np.zeros(shape, np.uint8)
    scale = np.array(shape[::-1], float)
    for value, outlines in ((255, parts), (0, holes)):
        for outline in outlines:
            # Corner-origin coordinates, in 1/16 pixel as OpenCV's fixed point wants them.
            points = np.round((outline * scale - 0.5) * 16).astype(np.int32)
            cv2.fillPoly(canvas, [points], value, lineType=cv2.LINE_8, shift=4)
    return canvas


def _radial(radius: np.ndarray, squeeze: tuple[float, float] = (1.0, 1.0)) -> Polygon:
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    points = np.stack([np.cos(angle) * squeeze[0], np.sin(angle) * squeeze[1]], axis=1) * radius[:, None]
    return 0.5 + points


def _blob(rng: np.random.Generator, roughness: float, squeeze: tuple[float, float] = (1.0, 1.0)) -> Polygon:
    """A round outline with random low harmonics."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    radius = np.ones_like(angle)
    for harmonic in range(2, 6):
        radius += roughness / harmonic * rng.uniform(-1, 1) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    return _radial(0.46 * radius / radius.max(), squeeze)


Parts = tuple[tuple[Polygon, ...], tuple[Polygon, ...]]


def _star(rng: np.random.Generator) -> Parts:
    points = int(rng.integers(5, 8))
    angle = np.linspace(0, 2 * np.pi, 12 * points, endpoint=False)
    spike = 0.5 + 0.5 * np.cos(points * angle + rng.uniform(0, 2 * np.pi))
    return (_radial(0.46 * (rng.uniform(0.55, 0.7) + 0.4 * spike) / 1.1),), ()


def _leaf(rng: np.random.Generator) -> Parts:
    t = np.linspace(0, np.pi, 30)
    width = rng.uniform(0.24, 0.36) * np.sin(t) ** 0.8 * (1 + 0.12 * np.sin(rng.integers(6, 11) * t))
    x = 0.04 + 0.92 * t / np.pi
    upper, lower = np.stack([x, 0.5 - width], 1), np.stack([x, 0.5 + width], 1)[::-1]
    return (np.concatenate([upper, lower]),), ()


def _fish(rng: np.random.Generator) -> Parts:
    body = _blob(rng, 0.1, (0.8, rng.uniform(0.55, 0.7))) - [0.1, 0.0]
    tail_x = body[:, 0].max() - 0.06
    tail = np.array(
        [[tail_x, 0.5], [0.98, 0.5 - rng.uniform(0.2, 0.34)], [0.88, 0.5], [0.98, 0.5 + rng.uniform(0.2, 0.34)]]
    )
    return (body, tail), ()


def _vase(rng: np.random.Generator) -> Parts:
    y = np.linspace(0, 1, 24)
    belly = rng.uniform(0.24, 0.36) * np.exp(-(((y - rng.uniform(0.5, 0.7)) / 0.28) ** 2))
    half = 0.12 + belly + 0.08 * (y < 0.08) + 0.04 * (y > 0.94)
    left, right = np.stack([0.5 - half, 0.03 + 0.94 * y], 1), np.stack([0.5 + half, 0.03 + 0.94 * y], 1)[::-1]
    return (np.concatenate([left, right]),), ()


def _house(rng: np.random.Generator) -> Parts:
    eaves, wall = rng.uniform(0.35, 0.48), rng.uniform(0.06, 0.14)
    ridge = rng.uniform(0.35, 0.65)
    walls = np.array([[wall, eaves], [1 - wall, eaves], [1 - wall, 0.96], [wall, 0.96]])
    roof = np.array([[0.02, eaves + 0.02], [ridge, 0.04], [0.98, eaves + 0.02]])
    return (walls, roof), ()


def _mushroom(rng: np.random.Generator) -> Parts:
    t = np.linspace(np.pi, 2 * np.pi, 30)
    rim = rng.uniform(0.5, 0.6)
    cap = np.stack([0.5 + 0.47 * np.cos(t), rim + (rim - 0.05) * np.sin(t)], 1)
    foot, neck = rng.uniform(0.16, 0.24), rng.uniform(0.1, 0.15)
    stem = np.array([[0.5 - neck, rim - 0.02], [0.5 + neck, rim - 0.02], [0.5 + foot, 0.97], [0.5 - foot, 0.97]])
    return (cap, stem), ()


def _shell(rng: np.random.Generator) -> Parts:
    return (_blob(rng, 0.35),), ()


def _ring(rng: np.random.Generator) -> Parts:
    outer = _blob(rng, 0.12)
    hole = 0.5 + (_blob(rng, 0.15) - 0.5) * rng.uniform(0.28, 0.4)
    return (outer,), (hole,)


@dataclasses.dataclass(frozen=True)
class Category:
    """How a category looks: outline, hue of its palette, pattern and the pattern's scale relative to the canvas."""

    name: str
    outline: Callable[[np.random.Generator], Parts]
    hue: float
    pattern: str
    scale: float


CATEGORIES = (
    Category("star", _star, 0.12, "rings", 0.21),
    Category("leaf", _leaf, 0.32, "stripes", 0.16),
    Category("fish", _fish, 0.55, "dots", 0.18),
    Category("vase", _vase, 0.05, "checks", 0.16),
    Category("house", _house, 0.95, "patches", 0.23),
    Category("mushroom", _mushroom, 0.0, "dots", 0.24),
    Category("shell", _shell, 0.75, "stripes", 0.23),
    Category("ring", _ring, 0.45, "patches", 0.18),
)
"""Drawn categories; the COCO category id is the position plus one."""


def draw_marks(rng: np.random.Generator, rgb: np.ndarray) -> None:
    """Draw a few bold marks, so that every part of an object can be told from every other."""
    size = rgb.shape[0]
    for _ in range(int(rng.integers(5, 10))):
        colour = tuple(float(v) for v in rng.uniform(0, 1, 3))
        x, y = (int(v) for v in rng.uniform(0.1, 0.9, 2) * size)
        reach = rng.uniform(0.05, 0.16) * size
        shape = rng.integers(3)
        if shape == 0:
            cv2.circle(rgb, (x, y), int(reach), colour, int(rng.choice([-1, 4])), cv2.LINE_AA)
        elif shape == 1:
            angle = rng.uniform(0, np.pi)
            step = (int(1.6 * reach * np.cos(angle)), int(1.6 * reach * np.sin(angle)))
            cv2.line(
                rgb,
                (x - step[0], y - step[1]),
                (x + step[0], y + step[1]),
                colour,
                int(rng.integers(3, 8)),
                cv2.LINE_AA,
            )
        else:
            corners = np.array([x, y]) + reach * rng.uniform(-1, 1, (3, 2))
            cv2.fillPoly(rgb, [corners.astype(np.int32)], colour, cv2.LINE_AA)


def draw_sprite(rng: np.random.Generator, category: Category) -> Sprite:
    """Draw one instance of a category."""
    parts, holes = category.outline(rng)
    shape = (SPRITE_SIZE, SPRITE_SIZE)
    hue = category.hue + rng.normal(0, 0.08)
    rgb = random_texture(rng, shape, random_palette(rng, 5, hue, 0.2), category.pattern, category.scale * SPRITE_SIZE)
    if len(parts) > 1:
        second = random_texture(
            rng, shape, random_palette(rng, 4, hue + 0.2, 0.3), "noise", category.scale * SPRITE_SIZE
        )
        inside = fill(parts[1:], (), shape) > 0
        rgb[inside] = second[inside]
    draw_marks(rng, rgb)
    # A darker rim, as a painter's outline.
    mask = fill(parts, holes, shape)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    rgb *= np.clip(0.45 + depth / 5, 0, 1)[..., None]
    return Sprite(category.name, rgb.astype(np.float32), parts, holes)
