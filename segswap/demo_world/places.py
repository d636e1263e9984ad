"""The demo world's Tokyo 24/7 and Pitts30k: pictures of drawn squares, in the layouts of the real sets.

Tokyo 24/7: the database is taken by day, twelve views of each place; the queries by night. Pitts30k: both by
day, at two dates. A query is taken some metres beside its place, at another heading, zoom and tilt than any
view of the database.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from segswap.demo_world.scenes import to_uint8
from segswap.demo_world.squares import Camera, Scene, Square, by_day, by_night, draw_square, park_cars, photograph
from segswap.errors import InputError
from segswap.files import whole_file, whole_folder, write_bytes, write_text
from segswap.images import encode_jpeg, resize
from segswap.progress import progress
from segswap.randomness import generator

SIZE = (192, 144)
"""Width and height of the pictures, in pixels."""

METRES = 25.0
"""Largest distance of a positive: ``posDistThr`` of Patch-NetVLAD."""

VIEWS_TOKYO = 12
VIEWS_PITTS = 4

_BLOCK = 80.0
"""Metres between the middles of neighbouring squares; each lies up to 5 m off, on either axis."""

_BLOCKS_PER_ROW = 8
_NEIGHBOUR = 7.0
"""Metres of a Pittsburgh place from the middle of the square that it shares with its neighbour."""

_ORIGIN_TOKYO = (382000.0, 3946000.0)
_ORIGIN_PITTS = (585000.0, 4477000.0)


@dataclasses.dataclass(frozen=True)
class Shot:
    """A picture and where it was taken: its name, RGB uint8 (H, W, 3), UTM (east, north) in metres."""

    name: str
    picture: np.ndarray
    position: np.ndarray


def develop(rng: np.random.Generator, picture: np.ndarray, noise: float) -> np.ndarray:
    """Return what a sensor makes of a picture, float32 (H, W, 3) in [0, 1]: exposure, white balance, noise; uint8.

    Args:
        noise: standard deviation of the noise, of a range of 1.
    """
    gains = rng.uniform(0.92, 1.08) * rng.uniform(0.96, 1.04, 3)
    return to_uint8(picture * gains + rng.normal(0, noise, picture.shape))


def square_position(seed: int, origin: tuple[float, float], square: int) -> np.ndarray:
    """Return the UTM (east, north) of a square's middle; squares are at least 70 m apart."""
    row, column = divmod(square, _BLOCKS_PER_ROW)
    jitter = generator(seed, "square position", square).uniform(-5, 5, 2)
    return np.array(origin) + _BLOCK * np.array([column, row]) + jitter


def query_camera(rng: np.random.Generator, station: Sequence[float], heading: float) -> Camera:
    """Draw the camera of a query: 2 to 5 m beside a station (east, north), near a heading, zoomed and tilted."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(2, 5)
    position = station[0] + distance * np.cos(angle), station[1] + distance * np.sin(angle)
    return Camera(position, heading, rng.uniform(2, 10), rng.uniform(-4, 4), rng.uniform(48, 66))


def _shoot(scene: Scene, camera: Camera, rng: np.random.Generator, noise: float, name: str, middle: np.ndarray) -> Shot:
    picture = develop(rng, photograph(scene, camera, SIZE), noise)
    return Shot(name, picture, middle + np.array(camera.position))


def _write_shots(folder: Path, shots: Sequence[Shot]) -> None:
    for shot in shots:
        write_bytes(folder / shot.name, encode_jpeg(shot.picture))


def _positions(shots: Sequence[Shot]) -> np.ndarray:
    return np.stack([shot.position for shot in shots])


def _names(shots: Sequence[Shot]) -> list[str]:
    return [shot.name for shot in shots]


def _visits(place: int, n_places: int, n_queries: int) -> range:
    """Return the numbers of a place's queries: the places are visited in turn until all queries are taken."""
    return range(len(range(place, n_queries, n_places)))


def _check_counts(n_places: int, n_queries: int) -> None:
    if min(n_places, n_queries) < 1:
        raise InputError(f"{n_places} places and {n_queries} queries: set at least 1 of each")


def tokyo_database(seed: int, place: int, square: Square) -> list[Shot]:
    """Return the twelve views of a place by day, 30 degrees apart, in order."""
    rng = generator(seed, "tokyo database", place)
    scene = by_day(rng, park_cars(rng, square, 4))
    first = rng.uniform(0, 30)
    middle = square_position(seed, _ORIGIN_TOKYO, place)
    return [
        _shoot(scene, Camera((0.0, 0.0), first + 30 * view), rng, 0.008, _view_name(place, 30 * view), middle)
        for view in range(VIEWS_TOKYO)
    ]


def _view_name(place: int, degrees: int) -> str:
    return f"database/{place:05d}/{place:05d}_{degrees:03d}.jpg"


def tokyo_query(seed: int, place: int, visit: int, square: Square) -> Shot:
    """Return a query of a place by night."""
    rng = generator(seed, "tokyo query", place, visit)
    scene = by_night(rng, park_cars(rng, square, 4))
    camera = query_camera(rng, (0.0, 0.0), rng.uniform(0, 360))
    name = f"query/{place:05d}.{visit}.jpg"
    return _shoot(scene, camera, rng, 0.025, name, square_position(seed, _ORIGIN_TOKYO, place))


def layout_descriptor(picture: np.ndarray, cells: tuple[int, int] = (8, 3), bins: int = 8) -> np.ndarray:
    """Return a descriptor of a whole picture: gradient orientations on a coarse grid, L2-normalised, (n,).

    Orientations are taken modulo 180 degrees, so that a window counts the same dark and lit.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    x, y = (cv2.Sobel(cv2.GaussianBlur(grey, (0, 0), 1.5), cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    strength = np.sqrt(np.hypot(x, y))
    bin_of = np.floor(np.arctan2(y, x) % np.pi / np.pi * bins).astype(int) % bins
    maps = (np.arange(bins) == bin_of[..., None]) * strength[..., None]
    pooled = resize(maps.astype(np.float32), cells)
    pooled /= np.linalg.norm(pooled, axis=2, keepdims=True) + 1e-3 * pooled.max()
    centred = pooled - pooled.mean((0, 1))
    return (centred / max(float(np.linalg.norm(centred)), 1e-6)).ravel()


def first_scores(queries: Sequence[Shot], database: Sequence[Shot]) -> np.ndarray:
    """Return the cosine of layout descriptors, float32 (Q, D), higher is better: a plausible first ranking.

    It depends on nothing but the pictures, as the real file's scores do; it is right often, not always.
    """
    of_queries, of_database = (
        np.stack([layout_descriptor(shot.picture) for shot in shots]) for shots in (queries, database)
    )
    return (of_queries @ of_database.T).astype(np.float32)


def draw_tokyo247(folder: str | os.PathLike, seed: int, n_places: int, n_queries: int) -> None:
    """Write a miniature of Tokyo 24/7.

    ``database/*/*.jpg``, twelve consecutive views of each place, and ``query/*.jpg`` by night;
    ``query_list.npy`` and ``database_list.npy``, names relative to the folder; ``query_utm.npy`` (Q, 2) and
    ``database_utm.npy`` (D, 2) in metres; ``netvlad_scores.npy``, float32 (Q, D), higher is better.

    Raises:
        InputError: when there would be no place or no query.
    """
    _check_counts(n_places, n_queries)
    database: list[Shot] = []
    queries: list[Shot] = []
    for place in progress(range(n_places), "Tokyo 24/7 places"):
        square = draw_square(generator(seed, "tokyo square", place))
        database += tokyo_database(seed, place, square)
        queries += [tokyo_query(seed, place, visit, square) for visit in _visits(place, n_places, n_queries)]
    with whole_folder(folder) as temporary:
        _write_shots(temporary, [*database, *queries])
        _write_array(temporary / "query_list.npy", np.array(_names(queries)))
        _write_array(temporary / "database_list.npy", np.array(_names(database)))
        _write_array(temporary / "query_utm.npy", _positions(queries))
        _write_array(temporary / "database_utm.npy", _positions(database))
        _write_array(temporary / "netvlad_scores.npy", first_scores(queries, database))


def _write_array(path: Path, values: np.ndarray) -> None:
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.save(file, values, allow_pickle=False)


def pitts_station(seed: int, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a place's station (east, north) in its square, and the square's UTM, both in metres.

    Places 0 and 1, 2 and 3, ... lie 14 m apart in one square: the same houses from two sides.
    """
    square = place // 2
    angle = generator(seed, "pitts street", square).uniform(0, 2 * np.pi) + np.pi * (place % 2)
    station = _NEIGHBOUR * np.array([np.cos(angle), np.sin(angle)])
    return station, square_position(seed, _ORIGIN_PITTS, square)


def pitts_first_date(seed: int, number: int, square: Square) -> Scene:
    """Return a square, by its number, at the date of the database, with that day's light and cars."""
    rng = generator(seed, "pitts first date", number)
    return by_day(rng, park_cars(rng, square, 6))


def pitts_database(seed: int, place: int, scene: Scene) -> list[Shot]:
    """Return the views of a place in a scene of the first date, 90 degrees apart, in order."""
    rng = generator(seed, "pitts database", place)
    station, middle = pitts_station(seed, place)
    first = _first_heading(seed, place)
    shots = []
    for view in range(VIEWS_PITTS):
        camera = Camera((float(station[0]), float(station[1])), first + 90 * view, field=75.0)
        name = f"{place // 2:03d}/{place:06d}_pitch1_yaw{view + 1}.jpg"
        shots.append(_shoot(scene, camera, rng, 0.008, name, middle))
    return shots


def _first_heading(seed: int, place: int) -> float:
    return float(generator(seed, "pitts heading", place).uniform(0, 90))


def pitts_query(seed: int, place: int, visit: int, square: Square) -> Shot:
    """Return a query of a place at the second date: other light and cars, beside the place, near one of its views."""
    rng = generator(seed, "pitts query", place, visit)
    scene = by_day(rng, park_cars(rng, square, 4))
    station, middle = pitts_station(seed, place)
    heading = _first_heading(seed, place) + 90 * rng.integers(VIEWS_PITTS) + rng.uniform(-20, 20)
    camera = query_camera(rng, station, heading)
    name = f"queries_real/{place // 2:03d}/{place:06d}_pitch1_visit{visit + 1}.jpg"
    return _shoot(scene, camera, rng, 0.012, name, middle)


def draw_pitts30k(folder: str | os.PathLike, seed: int, n_places: int, n_queries: int) -> None:
    """Write a miniature of Pitts30k.

    ``<square>/*.jpg`` and ``queries_real/<square>/*.jpg``; ``queries.txt`` and ``database.txt``, a name a line,
    relative to the folder; ``positions.npz`` with ``utmQ`` (Q, 2), ``utmDb`` (D, 2) and ``posDistThr``, metres.
    Some queries have views of two places within 25 m.

    Raises:
        InputError: when there would be no place or no query.
    """
    _check_counts(n_places, n_queries)
    database: list[Shot] = []
    queries: list[Shot] = []
    for number in progress(range((n_places + 1) // 2), "Pitts30k squares"):
        square = draw_square(generator(seed, "pitts square", number))
        scene = pitts_first_date(seed, number, square)
        for place in range(2 * number, min(2 * number + 2, n_places)):
            database += pitts_database(seed, place, scene)
            queries += [pitts_query(seed, place, visit, square) for visit in _visits(place, n_places, n_queries)]
    with whole_folder(folder) as temporary:
        _write_shots(temporary, [*database, *queries])
        write_text(temporary / "queries.txt", "".join(f"{name}\n" for name in _names(queries)))
        write_text(temporary / "database.txt", "".join(f"{name}\n" for name in _names(database)))
        with whole_file(temporary / "positions.npz") as path, open(path, "wb") as file:
            np.savez(file, utmQ=_positions(queries), utmDb=_positions(database), posDistThr=np.array(METRES))
