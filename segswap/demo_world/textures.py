"""Textures: scalar fields and the palettes that colour them.

A field is float32 (H, W) in [0, 1]; a texture is float32 (H, W, 3) in [0, 1].
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

Palette = np.ndarray
"""Colours along a gradient, float32 (n, 3) in [0, 1]."""


def noise(rng: np.random.Generator, shape: tuple[int, int], scale: float, octaves: int = 4) -> np.ndarray:
    """Return fractal noise whose coarsest features are about ``scale`` pixels wide."""
    total = np.zeros(shape, np.float32)
    amplitude, weight = 1.0, 0.0
    for _ in range(octaves):
        grid = (max(2, round(shape[0] / scale) + 1), max(2, round(shape[1] / scale) + 1))
        coarse = rng.random(grid, np.float32)
        total += amplitude * cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
        weight += amplitude
        amplitude *= 0.55
        scale = max(scale / 2, 1.0)
    return stretch(total / weight)


def stretch(field: np.ndarray) -> np.ndarray:
    """Scale a field to span [0, 1]."""
    low, high = float(field.min()), float(field.max())
    return ((field - low) / max(high - low, 1e-6)).astype(np.float32)


def _grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return x, y


def _turned(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return pixel coordinates turned by a random angle and bent by noise."""
    x, y = _grid(shape)
    angle = rng.uniform(0, np.pi)
    bend = 0.12 * min(shape) * (noise(rng, shape, 0.6 * min(shape), 2) - 0.5)
    return np.cos(angle) * x + np.sin(angle) * y + bend, np.cos(angle) * y - np.sin(angle) * x + bend


def stripes(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Bent stripes of varying width."""
    along, _ = _turned(rng, shape)
    return (0.5 + 0.5 * np.sin(2 * np.pi * along / scale + 3 * noise(rng, shape, 3 * scale, 2))).astype(np.float32)


def checks(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Bent checkers."""
    u, v = _turned(rng, shape)
    return ((np.floor(u / scale) + np.floor(v / scale)) % 2).astype(np.float32)


def dots(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Discs of random size at random places, on zero."""
    field = np.zeros(shape, np.float32)
    count = max(3, int(0.5 * shape[0] * shape[1] / scale**2))
    for x, y, radius, value in zip(
        rng.uniform(0, shape[1], count),
        rng.uniform(0, shape[0], count),
        rng.uniform(0.15, 0.5, count) * scale,
        rng.uniform(0.5, 1, count),
        strict=True,
    ):
        cv2.circle(field, (round(x), round(y)), max(1, round(radius)), float(value), -1, cv2.LINE_AA)
    return field


def patches(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Voronoi cells of random values."""
    count = max(4, int(shape[0] * shape[1] / scale**2))
    seeds = np.ones(shape, np.uint8)
    seeds[rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)] = 0
    _, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return rng.random(int(label.max()) + 1, np.float32)[label]


def rings(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Bent rings around a random centre."""
    x, y = _grid(shape)
    distance = np.hypot(x - rng.uniform(0, shape[1]), y - rng.uniform(0, shape[0]))
    return 0.5 + 0.5 * np.sin(2 * np.pi * distance / scale + 4 * noise(rng, shape, 3 * scale, 2))


FIELDS = {"noise": noise, "stripes": stripes, "checks": checks, "dots": dots, "patches": patches, "rings": rings}


def random_palette(
    rng: np.random.Generator, colours: int = 4, hue: float | None = None, hue_spread: float = 0.5
) -> Palette:
    """Draw a palette; ``hue`` in [0, 1] with a spread keeps its colours related."""
    centre = rng.uniform() if hue is None else hue
    hues = (centre + rng.uniform(-hue_spread, hue_spread, colours)) % 1.0
    lightness = rng.permutation(np.linspace(0.2, 0.85, colours) + rng.uniform(-0.08, 0.08, colours))
    saturation = rng.uniform(0.25, 0.9, colours)
    return np.array([colorsys.hls_to_rgb(*c) for c in zip(hues, lightness, saturation, strict=True)], np.float32)


def colour(field: np.ndarray, palette: Palette) -> np.ndarray:
    """Colour a field by linear interpolation along a palette, in 256 steps."""
    stops = np.linspace(0, 1, len(palette))
    steps = np.stack([np.interp(np.linspace(0, 1, 256), stops, channel) for channel in palette.T], axis=-1)
    return steps.astype(np.float32)[np.round(field * 255).astype(np.uint8)]


def random_texture(
    rng: np.random.Generator, shape: tuple[int, int], palette: Palette, pattern: str, scale: float
) -> np.ndarray:
    """Draw a texture: a pattern and coarse noise mixed by a third field, so that no two places look alike."""
    figure = FIELDS[pattern](rng, shape, scale)
    ground = noise(rng, shape, 0.5 * max(shape), 5)
    mix = noise(rng, shape, 0.4 * max(shape), 2)
    weight = 0.3 + 0.5 * mix
    texture = colour(stretch(weight * figure + (1 - weight) * ground), palette)
    other = colour(noise(rng, shape, 2 * scale, 3), random_palette(rng, 3))
    blotch = np.clip(3 * (noise(rng, shape, 0.35 * max(shape), 3) - 0.62), 0, 1)[..., None]
    shade = 0.75 + 0.5 * noise(rng, shape, 0.8 * max(shape), 2)[..., None]
    return np.clip((texture * (1 - blotch) + other * blotch) * shade, 0, 1)
