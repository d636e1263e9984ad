"""A small place recognition data set: pictures of a few places, their lists and positions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from segswap.benchmarks.place_data import PlaceFiles
from segswap.images import encode_jpeg
from segswap.randomness import generator

N_PLACES, VIEWS, N_QUERIES = 4, 3, 5
FILES = PlaceFiles("queries.txt", "database.txt", positions="positions.npz")


def draw_view(place: int, view: int) -> np.ndarray:
    """A place is a coarse pattern; its views are shifted a little."""
    pattern = generator(place, "place").integers(0, 256, (6, 7, 3), np.uint8)
    return np.roll(cv2.resize(pattern, (100, 75)), 4 * view, axis=1)


def write_places(root: Path) -> Path:
    """Draw the data set into a new folder and return it."""
    root.mkdir(parents=True)
    database = [f"place {n}/vüe & {v}.jpg" for n in range(N_PLACES) for v in range(VIEWS)]
    queries = [f"queries/{n}.jpg" for n in range(N_QUERIES)]
    for n, name in enumerate(database):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(encode_jpeg(draw_view(n // VIEWS, n % VIEWS)))
    (root / "queries").mkdir()
    for n, name in enumerate(queries):
        (root / name).write_bytes(encode_jpeg(draw_view(n % N_PLACES, 5)))
    (root / "database.txt").write_text("".join(f"./{name}\n" for name in database))
    (root / "queries.txt").write_text("\n".join(queries) + "\n\n")
    spots = np.array([[550_000.0 + 100 * n, 4_470_000.0] for n in range(N_PLACES)])
    # The last query is far from everything.
    utm_queries = np.concatenate([spots[[0, 1, 2, 3]] + [15.0, 20.0], [[0.0, 0.0]]])
    np.savez(root / "positions.npz", utmQ=utm_queries, utmDb=np.repeat(spots, VIEWS, axis=0), posDistThr=25)
    return root
