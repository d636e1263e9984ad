"""Drawn scenes: a textured background with clutter, and sprites placed on it by matrices."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from segswap.demo_world.sprites import SPRITE_SIZE, Polygon, Sprite, fill
from segswap.demo_world.textures import FIELDS, random_palette, random_texture
from segswap.geometry import rotation_matrix, scale_matrix, shift_matrix, transform, warp_image
from segswap.pairs.style import Reinhard


@dataclasses.dataclass(frozen=True)
class Placed:
    """A sprite in a scene: its matrix, outlines of parts and holes in scene pixels, and box (x1, y1, x2, y2)."""

    sprite: Sprite
    matrix: np.ndarray
    parts: tuple[Polygon, ...]
    holes: tuple[Polygon, ...]
    box: tuple[float, float, float, float]

    def mask(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the mask in a scene of (H, W) pixels, uint8 of 0 and 255."""
        scale = np.array(shape[::-1], float)
        return fill(tuple(p / scale for p in self.parts), tuple(h / scale for h in self.holes), shape)


def draw_background(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw a background, float32 (H, W, 3) in [0, 1]: a texture and half-covering clutter of other textures."""
    patterns = list(FIELDS)
    scale = rng.uniform(0.1, 0.3) * min(shape)
    scene = random_texture(rng, shape, random_palette(rng, 5), str(rng.choice(patterns)), scale)
    for _ in range(int(rng.integers(2, 6))):
        corners = np.array(shape[::-1]) * rng.uniform(-0.1, 1.1, 2) + min(shape) * rng.uniform(-0.4, 0.4, (5, 2))
        canvas = np.zeros(shape, np.uint8)
        cv2.fillPoly(canvas, [cv2.convexHull(corners.astype(np.int32))], 255, cv2.LINE_AA)
        x, y, width, height = cv2.boundingRect(canvas)
        if min(width, height) < 8:
            continue
        part = np.s_[y : y + height, x : x + width]
        other = random_texture(rng, (height, width), random_palette(rng, 4), str(rng.choice(patterns)), scale)
        alpha = canvas[part][..., None].astype(np.float32) / 255
        scene[part] = scene[part] * (1 - alpha) + other * alpha
    return scene


def sprite_matrix(centre: tuple[float, float], size: float, degrees: float) -> np.ndarray:
    """Return the matrix from sprite pixels to scene pixels for a sprite of ``size`` pixels at ``centre``."""
    canvas = (SPRITE_SIZE, SPRITE_SIZE)
    turn = rotation_matrix(canvas, degrees)
    middle = transform(turn, np.array([SPRITE_SIZE / 2, SPRITE_SIZE / 2]))
    scale = size / SPRITE_SIZE
    return shift_matrix(*centre) @ scale_matrix(scale, scale) @ shift_matrix(*-middle) @ turn


def locate_sprite(sprite: Sprite, matrix: np.ndarray) -> Placed:
    """Return where a sprite lies in a scene under a matrix."""
    parts, holes = (
        tuple(transform(matrix, outline * SPRITE_SIZE) for outline in outlines)
        for outlines in (sprite.parts, sprite.holes)
    )
    points = np.concatenate(parts)
    low, high = points.min(0), points.max(0)
    return Placed(sprite, matrix, parts, holes, (*low.tolist(), *high.tolist()))


def paint_sprite(scene: np.ndarray, placed: Placed) -> np.ndarray:
    """Return the scene with a sprite painted on it."""
    size = scene.shape[1], scene.shape[0]
    alpha = warp_image(placed.sprite.mask(), placed.matrix, size, cv2.BORDER_CONSTANT)[..., None]
    alpha = alpha.astype(np.float32) / 255
    return scene * (1 - alpha) + warp_image(placed.sprite.rgb, placed.matrix, size, cv2.BORDER_REPLICATE) * alpha


def place_inside(
    rng: np.random.Generator, sprite: Sprite, shape: tuple[int, int], size: float, degrees: float
) -> Placed:
    """Place a sprite of ``size`` pixels, turned by ``degrees``, somewhere inside a scene of (H, W) pixels.

    A sprite whose box is larger than the scene is shrunk to fit. All places where the box is inside are equally
    likely.
    """
    box = np.array(locate_sprite(sprite, sprite_matrix((0.0, 0.0), size, degrees)).box)
    room = np.array(shape[::-1], float)
    fit = float(min(1.0, *(room / (box[2:] - box[:2]))))
    low, high = box[:2] * fit, box[2:] * fit
    x, y = rng.uniform(-low, np.maximum(room - high, -low)).tolist()
    return locate_sprite(sprite, sprite_matrix((x, y), size * fit, degrees))


def draw_mood(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw a style picture, float32 (H, W, 3): a field of few related colours, of any contrast and brightness."""
    hue = rng.uniform()
    picture = random_texture(rng, shape, random_palette(rng, 3, hue, 0.12), "noise", min(shape) / 3.2)
    contrast, brightness = rng.uniform(0.35, 1.0), rng.uniform(-0.25, 0.25)
    return (picture - 0.5) * contrast + 0.5 + brightness


def restyle(rng: np.random.Generator, picture: np.ndarray, strength: tuple[float, float]) -> np.ndarray:
    """Give a picture, float32 (H, W, 3) in [0, 1], the colours of a drawn mood; same form.

    Args:
        strength: bounds of the strength, within [0, 1]; 1 takes over the mood's colour statistics in full.
    """
    reinhard = Reinhard()
    mood = reinhard.statistics(to_uint8(draw_mood(rng, (48, 60))))
    restyled = reinhard.stylise([to_uint8(picture)], [mood], [rng.uniform(*strength)])[0]
    return restyled.astype(np.float32) / 255


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Round a float picture in [0, 1] to uint8."""
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
