"""Drawn town squares, by day and by night, and a camera that can stand anywhere in them.

A square is a round of ``RADIUS`` metres: a cylinder of house fronts and sky around a paved ground. A camera
beside the middle sees fronts grow and shrink as they would in a street, which is what makes two pictures of
one place differ. Heights are metres above the eye, directions are clockwise from north (the first column of
the wall), and positions are metres (east, north) from the middle.
"""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np

from segswap.demo_world.figures import draw_figure
from segswap.demo_world.scenes import locate_sprite, paint_sprite, sprite_matrix
from segswap.demo_world.sprites import draw_marks
from segswap.demo_world.textures import noise, random_palette, random_texture
from segswap.images import resize

RADIUS = 20.0
EYE = 2.5
"""Height of the camera above the ground, in metres."""

WALL_WIDTH = 1728
PER_RADIAN = WALL_WIDTH / (2 * np.pi)
"""Wall pixels per radian; as many pixels are ``RADIUS`` metres of height."""

HORIZON = 210
BASE = HORIZON + round(EYE / RADIUS * PER_RADIAN)
"""Rows of the wall at the height of the eye, and where the fronts stand on the ground."""

_GROUND_SIDE = 512
_FRONT_PATTERNS = ("patches", "checks", "stripes", "noise", "dots", "rings")


@dataclasses.dataclass(frozen=True)
class Square:
    """What stands in a place, without light.

    Attributes:
        wall: colours of the fronts, float32 (BASE, WALL_WIDTH, 3) in [0, 1], 0 where there is sky.
        lamps: colours of the light that windows, signs and lamps give at night, same form, 0 elsewhere.
        sky: 1 where there is sky, float32 (BASE, WALL_WIDTH).
        ground: colours of the paving, float32 (side, side, 3), north up, covering the whole round.
    """

    wall: np.ndarray
    lamps: np.ndarray
    sky: np.ndarray
    ground: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scene:
    """A square in some light: the wall with its sky, and the ground, forms as in ``Square``."""

    wall: np.ndarray
    ground: np.ndarray


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera: position (east, north) in metres, heading, pitch (up), roll and width of view in degrees."""

    position: tuple[float, float]
    heading: float
    pitch: float = 6.0
    roll: float = 0.0
    field: float = 60.0


def draw_square(rng: np.random.Generator) -> Square:
    """Draw a square: a closed row of houses with windows, doors and signs, trees, lamps, and paving."""
    shape = (BASE, WALL_WIDTH)
    square = Square(
        np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3), np.float32), np.ones(shape, np.float32), _paving(rng)
    )
    widths = rng.uniform(0.6, 1.5, int(rng.integers(11, 15)))
    edges = np.round(np.concatenate([[0], np.cumsum(widths / widths.sum())]) * WALL_WIDTH).astype(int)
    for left, right in itertools.pairwise(edges):
        _build_house(rng, square, left, right)
    for _ in range(int(rng.integers(2, 6))):
        _plant_tree(rng, square)
    for x in np.linspace(60, WALL_WIDTH - 60, 7) + rng.uniform(-45, 45, 7):
        _raise_lamp(rng, square, round(x))
    return square


def _paving(rng: np.random.Generator) -> np.ndarray:
    shape = (_GROUND_SIDE, _GROUND_SIDE)
    grey = random_palette(rng, 4) * 0.25 + 0.35
    ground = random_texture(rng, shape, grey, str(rng.choice(["checks", "stripes", "patches"])), rng.uniform(24, 40))
    return cv2.GaussianBlur(ground, (0, 0), 1.5)


def _build_house(rng: np.random.Generator, square: Square, left: int, right: int) -> None:
    """Build a house between two columns of the wall: front, roof, storeys of windows, door and sign."""
    width, height = right - left, int(rng.uniform(0.4, 0.74) * PER_RADIAN)
    top = BASE - height
    colours = 0.15 + 0.75 * random_palette(rng, 4, rng.uniform(), 0.14)
    front = random_texture(rng, (height, width), colours, str(rng.choice(_FRONT_PATTERNS)), rng.uniform(16, 40))
    mask = np.ones((height, width), np.float32)
    if rng.uniform() < 0.6:
        _add_gable(rng, front, mask)
    light = np.zeros_like(front)
    _add_windows(rng, front, light)
    _add_shop(rng, front, light)
    front[:, :2] *= 0.45
    front[-3:] *= 0.5
    mask = mask[..., None]
    part = np.s_[top:BASE, left:right]
    square.wall[part], square.lamps[part], square.sky[part] = front * mask, light * mask, 1 - mask[..., 0]


def _add_gable(rng: np.random.Generator, front: np.ndarray, mask: np.ndarray) -> None:
    """Cut the upper corners of a front off, as under a pitched roof, and paint the roof's edge."""
    height, width = mask.shape
    eaves, ridge = int(rng.uniform(0.16, 0.28) * height), int(rng.uniform(0.3, 0.7) * width)
    outline = np.array([[0, eaves], [ridge, 0], [width - 1, eaves], [width - 1, height], [0, height]], np.int32)
    mask[:] = 0
    cv2.fillPoly(mask, [outline], 1.0)
    colour = tuple(float(v) for v in rng.uniform(0.1, 0.5, 3))
    cv2.polylines(front, [outline[:3]], False, colour, 7, cv2.LINE_AA)


def _add_windows(rng: np.random.Generator, front: np.ndarray, light: np.ndarray) -> None:
    """Add storeys of framed windows; about half of them are lit at night, in the house's own lamplight."""
    height, width = front.shape[:2]
    across, down = rng.uniform(24, 40), rng.uniform(34, 48)
    share = rng.uniform(0.4, 0.62, 2)
    half = np.array([across * share[0], down * share[1]]) / 2
    frame = tuple(float(v) for v in rng.uniform(0.1, 0.95, 3))
    lamp = np.array([1.0, rng.uniform(0.7, 0.95), rng.uniform(0.35, 0.75)])
    n_across = max(1, int((width - 8) // across))
    for y in np.arange(height - 62, 0.26 * height, -down):
        for x in width / 2 + across * (np.arange(n_across) - (n_across - 1) / 2):
            low, high = np.round([x, y] - half).astype(int), np.round([x, y] + half).astype(int)
            glass = (0.12 + 0.25 * rng.uniform() + rng.uniform(0, 0.08, 3)).tolist()
            cv2.rectangle(front, low.tolist(), high.tolist(), glass, -1)
            if rng.uniform() < 0.5:
                cv2.rectangle(light, (low + 1).tolist(), (high - 1).tolist(), (lamp * rng.uniform(0.6, 1)).tolist(), -1)
            if rng.uniform() < 0.25:
                blind = int(low[1] + rng.uniform(0.3, 0.7) * (high[1] - low[1]))
                cv2.rectangle(front, low.tolist(), (int(high[0]), blind), rng.uniform(0.4, 0.9, 3).tolist(), -1)
            cv2.rectangle(front, low.tolist(), high.tolist(), frame, 2, cv2.LINE_AA)
            cv2.line(front, (round(x), int(low[1])), (round(x), int(high[1])), frame, 1)
            cv2.line(light, (round(x), int(low[1])), (round(x), int(high[1])), (0, 0, 0), 1)


def _add_shop(rng: np.random.Generator, front: np.ndarray, light: np.ndarray) -> None:
    """Add a door and a sign with marks; the sign shines at night."""
    height, width = front.shape[:2]
    door = int(rng.uniform(0.1, 0.7) * width)
    colour = tuple(float(v) for v in rng.uniform(0.05, 0.6, 3))
    cv2.rectangle(front, (door, height - 32), (min(door + 17, width - 4), height), colour, -1)
    sign_width, sign_height = int(rng.uniform(0.45, 0.85) * width), int(rng.uniform(15, 22))
    x, y = int(rng.uniform(4, width - sign_width - 3)), height - 36 - sign_height
    # Marks are drawn on a square and seen through a slit of it.
    board = np.empty((sign_width, sign_width, 3), np.float32)
    board[:] = rng.uniform(0, 1, 3)
    draw_marks(rng, board)
    middle = (sign_width - sign_height) // 2
    sign = np.s_[y : y + sign_height, x : x + sign_width]
    front[sign] = board[middle : middle + sign_height]
    if rng.uniform() < 0.8:
        light[sign] = 0.9 * front[sign]


def _strip(x: int, reach: float) -> slice:
    """Return the wall's columns within ``reach`` of x: what stands there is drawn on them alone, for speed."""
    return slice(max(0, x - int(reach)), min(WALL_WIDTH, x + int(reach)))


def _plant_tree(rng: np.random.Generator, square: Square) -> None:
    """Plant a tree in front of the houses."""
    reach = rng.uniform(22, 42)
    strip = _strip(int(rng.uniform(60, WALL_WIDTH - 60)), 3 * reach)
    wall, lamps, sky = square.wall[:, strip], square.lamps[:, strip], square.sky[:, strip]
    x, trunk = sky.shape[1] // 2, BASE - int(rng.uniform(50, 80))
    crown = np.zeros(sky.shape, np.uint8)
    for _ in range(9):
        shift = rng.normal(0, 0.45 * reach, 2)
        cv2.circle(crown, (int(x + shift[0]), int(trunk + shift[1])), int(reach * rng.uniform(0.35, 0.65)), 1, -1)
    leaves = random_texture(rng, crown.shape, random_palette(rng, 4, 0.3, 0.08) * 0.8, "patches", 11)
    inside = crown > 0
    wall[inside], lamps[inside], sky[inside] = leaves[inside], 0, 0
    stem = np.s_[min(trunk + 10, BASE) : BASE, x - 4 : x + 4]
    wall[stem], lamps[stem], sky[stem] = (0.28, 0.2, 0.14), 0, 0


def _raise_lamp(rng: np.random.Generator, square: Square, x: int) -> None:
    """Raise a street lamp."""
    top = BASE - int(rng.uniform(66, 84))
    post = np.s_[top:BASE, x - 1 : x + 2]
    square.wall[post], square.lamps[post], square.sky[post] = 0.12, 0, 0
    y, column = np.ogrid[-6:7, -6:7]
    inside, head = np.hypot(y, column) < 6.5, np.s_[top - 6 : top + 7, x - 6 : x + 7]
    square.wall[head][inside], square.sky[head][inside] = 0.75, 0
    square.lamps[head][inside] = (1.0, 0.93, 0.75)


def park_cars(rng: np.random.Generator, square: Square, n_cars: int) -> Square:
    """Return the square with cars parked before the houses."""
    wall, lamps, sky = square.wall.copy(), square.lamps.copy(), square.sky.copy()
    for _ in range(n_cars):
        car = draw_figure(rng, "car")
        size = rng.uniform(58, 72)
        strip = _strip(int(rng.uniform(size, WALL_WIDTH - size)), size / 2 + 2)
        # The wheels of the figure end at 0.825 of its canvas.
        middle = (strip.stop - strip.start) / 2
        placed = locate_sprite(car, sprite_matrix((middle, BASE - 0.325 * size), size, 0.0))
        wall[:, strip] = paint_sprite(wall[:, strip], placed)
        inside = placed.mask(wall[:, strip].shape[:2]) > 0
        lamps[:, strip][inside], sky[:, strip][inside] = 0, 0
    return Square(wall, lamps, sky, square.ground)


def by_day(rng: np.random.Generator, square: Square) -> Scene:
    """Light a square by day: a sun from some side, a sky with clouds, a colour of the hour."""
    azimuth = np.arange(WALL_WIDTH, dtype=np.float32) / PER_RADIAN
    sun = 1 + rng.uniform(0, 0.3) * np.cos(azimuth - rng.uniform(0, 2 * np.pi))
    tint = np.array([1.0, 1.0, 1.0]) + rng.uniform(-1, 1) * np.array([0.14, 0.02, -0.14])
    level = rng.uniform(0.7, 1.05)
    blue = np.array([0.45, 0.65, 0.92]) + rng.uniform(-0.12, 0.12, 3)
    cover = np.clip(rng.uniform(1.5, 3) * (_round_noise(rng, 110) - rng.uniform(0.3, 0.7)), 0, 1)[..., None]
    sky = (1 - cover) * blue + cover * rng.uniform(0.7, 0.98)
    lit = square.wall * sun[None, :, None] * level * tint
    wall = lit + square.sky[..., None] * sky
    return Scene(np.clip(wall, 0, 1).astype(np.float32), np.clip(square.ground * level * tint, 0, 1).astype(np.float32))


def by_night(rng: np.random.Generator, square: Square) -> Scene:
    """Light a square by night: dark and blue, with lit windows, signs and lamps and the glow around them."""
    level = rng.uniform(0.28, 0.45)
    tint = np.array([0.62, 0.74, 1.12]) + rng.uniform(-0.08, 0.08, 3)
    sky = np.array([0.03, 0.04, 0.1]) + 0.06 * _round_noise(rng, 160)[..., None]
    # Street light falls on the fronts from below; the glow goes around the seam of the wall.
    height = np.linspace(0.65, 1.5, BASE)[:, None, None]
    glow = _glow(square.lamps, 22) * 2.2 + _glow(square.lamps, 6) * 0.5
    wall = square.wall * (level * tint * height + glow) + square.sky[..., None] * (sky + 0.12 * glow)
    wall = np.maximum(wall, square.lamps)
    ground = square.ground * (1.1 * level * tint + rng.uniform(0.05, 0.15) * np.array([1.0, 0.85, 0.55]))
    return Scene(np.clip(wall, 0, 1).astype(np.float32), np.clip(ground, 0, 1).astype(np.float32))


def _round_noise(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Return noise (BASE, WALL_WIDTH) in [0, 1] that goes around without a seam."""
    field, overlap = noise(rng, (BASE, WALL_WIDTH + 200), scale), np.linspace(0, 1, 200, dtype=np.float32)
    field[:, :200] = field[:, :200] * overlap + field[:, WALL_WIDTH:] * (1 - overlap)
    return field[:, :WALL_WIDTH]


def _glow(lamps: np.ndarray, deviation: float) -> np.ndarray:
    """Blur light widely, around the seam of the wall; at a quarter of the size, which is all a wide blur needs."""
    margin = 4 * round(deviation)
    padded = np.pad(lamps, ((0, 0), (margin, margin), (0, 0)), mode="wrap")
    small = cv2.resize(padded, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), deviation / 4)
    return resize(small, (padded.shape[1], padded.shape[0]))[:, margin:-margin]


def photograph(scene: Scene, camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """Return a camera's picture of a scene, float32 (H, W, 3) in [0, 1], of ``size`` = (width, height).

    Raises:
        ValueError: when the camera stands outside the square.
    """
    if np.hypot(*camera.position) >= RADIUS:
        raise ValueError(f"camera at {camera.position} m: outside a square of {RADIUS} m")
    # Twice the pixels, then averaged: walls far away would alias.
    east, north, up = _rays(camera, (2 * size[0], 2 * size[1]))
    along = camera.position[0] * east + camera.position[1] * north
    beyond = RADIUS**2 - np.hypot(*camera.position) ** 2
    distance = -along + np.sqrt(along**2 + beyond)
    azimuth = np.arctan2(camera.position[0] + distance * east, camera.position[1] + distance * north) % (2 * np.pi)
    height = distance * up
    # Two columns around the seam, so that sampling goes across it; pixel centres lie at halves.
    wall = np.pad(scene.wall, ((0, 0), (2, 2), (0, 0)), mode="wrap")
    column, row = azimuth * PER_RADIAN + 1.5, HORIZON - height / RADIUS * PER_RADIAN - 0.5
    picture = _look_up(wall, column, row)
    low = height < -EYE
    reach = EYE / np.maximum(-up, 1e-3)
    per_metre = _GROUND_SIDE / (2 * RADIUS)
    column = (RADIUS + camera.position[0] + reach * east) * per_metre - 0.5
    row = (RADIUS - camera.position[1] - reach * north) * per_metre - 0.5
    return resize(np.where(low[..., None], _look_up(scene.ground, column, row), picture), size)


def _rays(camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each pixel's ray: east and north of a horizontal unit vector, and the rise along it, each (H, W)."""
    width, height = size
    focal = width / 2 / np.tan(np.radians(camera.field) / 2)
    heading, pitch, roll = np.radians([camera.heading, camera.pitch, camera.roll])
    x, y = np.meshgrid((np.arange(width) + 0.5 - width / 2) / focal, (np.arange(height) + 0.5 - height / 2) / focal)
    right, down = np.cos(roll) * x - np.sin(roll) * y, np.sin(roll) * x + np.cos(roll) * y
    ahead, rise = np.cos(pitch) + down * np.sin(pitch), np.sin(pitch) - down * np.cos(pitch)
    level = np.hypot(ahead, right)
    east = (ahead * np.sin(heading) + right * np.cos(heading)) / level
    north = (ahead * np.cos(heading) - right * np.sin(heading)) / level
    return east, north, rise / level


def _look_up(picture: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    maps = column.astype(np.float32), row.astype(np.float32)
    return cv2.remap(picture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
