"""Drawn figures of three classes, an airplane, a car and a horse: sprites with a shape that anyone recognises.

A figure is painted in layers, back to front. Most layers belong to its mask; decorations (windows, hooves, a
saddle) are only painted where the mask already is.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from segswap.demo_world.sprites import SPRITE_SIZE, Polygon, Sprite, draw_marks, fill
from segswap.demo_world.textures import random_palette, random_texture

Colour = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One outline of a figure and its paint.

    Attributes:
        outline: corner points in the unit square, (n, 2).
        coat: which of the figure's textures it is painted with, or a plain RGB colour in [0, 1].
        decoration: painted inside the mask only, no part of it.
    """

    outline: Polygon
    coat: int | Colour
    decoration: bool = False


@dataclasses.dataclass(frozen=True)
class Coat:
    """A texture of a figure: its hue relative to the figure's (in turns), pattern, and scale of the canvas."""

    hue: float
    pattern: str
    scale: float


@dataclasses.dataclass(frozen=True)
class Figure:
    """How a class looks: textures, and layers from back to front."""

    coats: tuple[Coat, ...]
    layers: tuple[Layer, ...]


def _rounded(*corners: tuple[float, float]) -> Polygon:
    """Return an outline with its corners cut twice (Chaikin's curve)."""
    points = np.array(corners, float)
    for _ in range(2):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.8 * points + 0.2 * following, 0.2 * points + 0.8 * following], 1).reshape(-1, 2)
    return points


def _disc(x: float, y: float, radius: float, height: float = 1.0) -> Polygon:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + height * radius * np.sin(angle)], 1)


_GLASS: Colour = (0.16, 0.22, 0.32)
_RUBBER: Colour = (0.1, 0.1, 0.11)
_METAL: Colour = (0.8, 0.8, 0.78)
_HOOF: Colour = (0.2, 0.15, 0.12)


def _airplane() -> Figure:
    """A jet from its side and a little above, its nose to the left."""
    far_wing = _rounded((0.41, 0.49), (0.56, 0.48), (0.72, 0.2), (0.71, 0.17), (0.65, 0.18))
    fin = _rounded((0.74, 0.46), (0.9, 0.17), (0.985, 0.15), (0.945, 0.45))
    body = _rounded(
        (0.02, 0.57), (0.05, 0.5), (0.13, 0.445), (0.3, 0.42), (0.75, 0.42), (0.97, 0.42), (0.97, 0.46), (0.8, 0.58),
        (0.62, 0.64), (0.15, 0.645), (0.05, 0.62),
    )  # fmt: skip
    stabiliser = _rounded((0.78, 0.5), (0.9, 0.48), (0.985, 0.59), (0.985, 0.62), (0.93, 0.61))
    near_wing = _rounded((0.32, 0.56), (0.56, 0.56), (0.79, 0.87), (0.79, 0.92), (0.7, 0.92))
    engine = _rounded((0.36, 0.71), (0.4, 0.68), (0.55, 0.69), (0.57, 0.74), (0.55, 0.78), (0.4, 0.78), (0.36, 0.76))
    windows = [Layer(_disc(x, 0.5, 0.011, 1.3), _GLASS, True) for x in np.arange(0.2, 0.76, 0.05)]
    cockpit = _rounded((0.075, 0.5), (0.125, 0.465), (0.155, 0.465), (0.155, 0.505))
    return Figure(
        (Coat(0.0, "stripes", 0.3), Coat(0.35, "patches", 0.22), Coat(0.6, "rings", 0.16)),
        (
            Layer(far_wing, 1),
            Layer(fin, 2),
            Layer(body, 0),
            *windows,
            Layer(cockpit, _GLASS, True),
            Layer(stabiliser, 2),
            Layer(engine, 2),
            Layer(_disc(0.37, 0.735, 0.018, 2.2), _METAL, True),
            Layer(near_wing, 1),
        ),
    )


def _car() -> Figure:
    """A car from its side, its bonnet to the left."""
    body = _rounded(
        (0.02, 0.68), (0.02, 0.54), (0.08, 0.49), (0.3, 0.46), (0.85, 0.46), (0.96, 0.49), (0.98, 0.56), (0.98, 0.68),
        (0.94, 0.73), (0.06, 0.73),
    )  # fmt: skip
    cabin = _rounded((0.25, 0.5), (0.4, 0.28), (0.46, 0.26), (0.74, 0.26), (0.81, 0.29), (0.92, 0.5))
    panes = (
        ((0.34, 0.46), (0.43, 0.32), (0.535, 0.31), (0.535, 0.46)),
        ((0.565, 0.46), (0.565, 0.31), (0.72, 0.31), (0.82, 0.46)),
    )
    wheels = [
        Layer(_disc(x, 0.71, radius), coat, decoration)
        for x in (0.23, 0.77)
        for radius, coat, decoration in ((0.115, _RUBBER, False), (0.068, _METAL, True), (0.026, _RUBBER, True))
    ]
    return Figure(
        (Coat(0.0, "patches", 0.3), Coat(0.45, "stripes", 0.14)),
        (
            Layer(cabin, 1),
            Layer(body, 0),
            *(Layer(np.array(pane), _GLASS, True) for pane in panes),
            Layer(_disc(0.045, 0.565, 0.026, 1.3), (0.98, 0.93, 0.7), True),
            Layer(_disc(0.965, 0.56, 0.02, 1.6), (0.75, 0.1, 0.1), True),
            Layer(_rounded((0.57, 0.535), (0.63, 0.535), (0.63, 0.55), (0.57, 0.55)), _METAL, True),
            *wheels,
        ),
    )


def _horse() -> Figure:
    """A saddled horse from its side, its head to the left."""
    head = _rounded(
        (0.2, 0.05), (0.25, 0.13), (0.27, 0.26), (0.2, 0.31), (0.1, 0.4), (0.045, 0.4), (0.025, 0.34), (0.13, 0.16),
        (0.165, 0.12),
    )  # fmt: skip
    neck = _rounded((0.2, 0.13), (0.27, 0.1), (0.44, 0.34), (0.44, 0.52), (0.26, 0.52), (0.23, 0.4), (0.19, 0.26))
    torso = _rounded(
        (0.24, 0.42), (0.36, 0.34), (0.5, 0.38), (0.64, 0.36), (0.76, 0.34), (0.86, 0.4), (0.88, 0.53), (0.82, 0.65),
        (0.66, 0.65), (0.5, 0.69), (0.34, 0.65), (0.25, 0.56),
    )  # fmt: skip
    far_fore = _rounded(
        (0.27, 0.55), (0.37, 0.58), (0.29, 0.75), (0.245, 0.93), (0.25, 0.97), (0.16, 0.97), (0.18, 0.92), (0.22, 0.74)
    )
    near_fore = _rounded(
        (0.3, 0.55), (0.45, 0.58), (0.41, 0.75), (0.39, 0.92), (0.41, 0.98), (0.31, 0.98), (0.32, 0.92), (0.325, 0.75)
    )
    far_hind = _rounded(
        (0.64, 0.56), (0.8, 0.56), (0.75, 0.73), (0.76, 0.8), (0.705, 0.93), (0.71, 0.97), (0.61, 0.97), (0.63, 0.92),
        (0.68, 0.79), (0.665, 0.7),
    )  # fmt: skip
    near_hind = _rounded(
        (0.7, 0.52), (0.88, 0.46), (0.865, 0.65), (0.895, 0.77), (0.87, 0.92), (0.89, 0.98), (0.78, 0.98), (0.79, 0.92),
        (0.805, 0.78), (0.74, 0.68),
    )  # fmt: skip
    tail = _rounded((0.82, 0.37), (0.91, 0.39), (0.965, 0.52), (0.99, 0.78), (0.94, 0.82), (0.915, 0.66), (0.85, 0.5))
    mane = _rounded((0.19, 0.07), (0.27, 0.08), (0.37, 0.21), (0.46, 0.37), (0.37, 0.42), (0.3, 0.28), (0.235, 0.19))
    saddle = _rounded((0.45, 0.34), (0.62, 0.34), (0.64, 0.47), (0.57, 0.58), (0.48, 0.57), (0.43, 0.46))
    legs = (far_fore, far_hind, near_fore, near_hind)
    hooves = [leg * [1, 0] + np.maximum(leg, [0, 0.925]) * [0, 1] for leg in legs]
    coated = [
        layer
        for leg, hoof in zip(legs, hooves, strict=True)
        for layer in (Layer(leg, 0), Layer(hoof, _HOOF, decoration=True))
    ]
    return Figure(
        (Coat(0.0, "patches", 0.24), Coat(0.5, "stripes", 0.1), Coat(0.35, "checks", 0.12)),
        (
            Layer(tail, 1),
            *coated[:4],
            Layer(torso, 0),
            *coated[4:],
            Layer(neck, 0),
            Layer(mane, 1),
            Layer(head, 0),
            Layer(_disc(0.15, 0.215, 0.016), _RUBBER, True),
            Layer(_disc(0.055, 0.35, 0.011), _RUBBER, True),
            Layer(saddle, 2),
        ),
    )


FIGURES = {"airplane": _airplane(), "car": _car(), "horse": _horse()}


def draw_figure(rng: np.random.Generator, name: str) -> Sprite:
    """Draw one instance of a figure: one of ``FIGURES``, with hues, pattern and marks of its own."""
    figure = FIGURES[name]
    shape = (SPRITE_SIZE, SPRITE_SIZE)
    parts = tuple(layer.outline for layer in figure.layers if not layer.decoration)
    hue = rng.uniform()
    textures = [_marked(rng, coat, hue) for coat in figure.coats]
    whole = fill(parts, (), shape) > 0
    rgb = textures[0].copy()
    for layer in figure.layers:
        own = fill((layer.outline,), (), shape)
        inside = (own > 0) & whole
        rgb[inside] = textures[layer.coat][inside] if isinstance(layer.coat, int) else layer.coat
        if not layer.decoration:
            # A darker rim, as a painter's outline; it also parts a wing from the body behind it.
            depth = cv2.distanceTransform(own, cv2.DIST_L2, 3)[inside]
            rgb[inside] *= np.clip(0.4 + depth / 4, 0, 1)[:, None]
    return Sprite(name, rgb, parts)


def _marked(rng: np.random.Generator, coat: Coat, hue: float) -> np.ndarray:
    palette = random_palette(rng, 5, hue + coat.hue, 0.12)
    shape = (SPRITE_SIZE, SPRITE_SIZE)
    texture = random_texture(rng, shape, palette, coat.pattern, coat.scale * SPRITE_SIZE)
    draw_marks(rng, texture)
    return texture
