"""SIFT on altered details, beside the matchers: a method that finds copies and has nothing to learn.

Keypoints and the ratio test are those of Lowe (Distinctive Image Features from Scale-Invariant Keypoints, 2004). The
score of a picture is the number of matches that agree on a similarity (RANSAC).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import cv2
import numpy as np
import pyarrow as pa

from segswap.benchmarks.altered import SCHEMA, AlteredQuery
from segswap.images import UnreadableImage, read_image
from segswap.listing import list_images
from segswap.names import as_text
from segswap.progress import progress

RATIO = 0.8
"""A match is kept where its distance is below this share of that of the second best."""

_PIXELS = 5.0
"""Largest distance of a match from where the similarity puts it, in pixels of the picture."""

_LEAST = 3
"""Matches that a similarity must explain: it puts any two of them right."""


@dataclasses.dataclass(frozen=True, eq=False)
class Keypoints:
    """The keypoints of a picture.

    Attributes:
        places: float32 (n, 2), (x, y) in its pixels.
        descriptors: float32 (n, 128).
    """

    places: np.ndarray
    descriptors: np.ndarray

    @classmethod
    def of(cls, picture: np.ndarray) -> Keypoints:
        """Find the keypoints of a picture, RGB uint8 (H, W, 3)."""
        found, descriptors = cv2.SIFT_create().detectAndCompute(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None)
        places = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
        return cls(places, np.zeros((0, 128), np.float32) if descriptors is None else descriptors)


def matches(query: Keypoints, picture: Keypoints) -> np.ndarray:
    """Return the matches that pass the ratio test, int64 (n, 2): keypoint of the query, keypoint of the picture."""
    if len(picture.places) < 2 or not len(query.places):
        return np.zeros((0, 2), np.int64)
    # One product of matrices: four times as fast as OpenCV's matcher, with the same outcome.
    a, b = query.descriptors, picture.descriptors
    squares = np.square(a).sum(1)[:, None] - 2 * a @ b.T + np.square(b).sum(1)
    rows, nearest = np.arange(len(a)), squares.argmin(1)
    first = squares[rows, nearest]
    squares[rows, nearest] = np.inf
    kept = first < RATIO**2 * squares.min(1)
    return np.stack([rows[kept], nearest[kept]], axis=1)


def locate(query: Keypoints, size: tuple[int, int], picture: Keypoints) -> tuple[int, list[float] | None]:
    """Look for a query in a picture.

    Args:
        size: (width, height) of the query in pixels.

    Returns:
        how many matches agree on a similarity, 0 for fewer than three; and the box x1, y1, x2, y2 around the query's
        outline, in pixels of the picture, None where nothing is found.
    """
    pairs = matches(query, picture)
    if len(pairs) < _LEAST:
        return 0, None
    # Draws of RANSAC are the same whatever was looked for before.
    cv2.setRNGSeed(0)
    matrix, inliers = cv2.estimateAffinePartial2D(
        query.places[pairs[:, 0]], picture.places[pairs[:, 1]], method=cv2.RANSAC, ransacReprojThreshold=_PIXELS
    )
    count = 0 if matrix is None else int(inliers.sum())
    if count < _LEAST:
        return 0, None
    corners = np.array([[0, 0], [size[0], 0], [0, size[1]], size], float) @ matrix[:, :2].T + matrix[:, 2]
    return count, [*corners.min(0).tolist(), *corners.max(0).tolist()]


def predict(queries: Sequence[AlteredQuery], pictures: str | os.PathLike) -> pa.Table:
    """Look for every query in every picture of a folder; those that do not open are left out.

    Returns:
        a row for each picture of each query, of ``altered.SCHEMA``.
    """
    asked = [_asked(query) for query in progress(queries, "keypoints of queries")]
    rows = []
    for path in progress(list_images(pictures), "SIFT (pictures)"):
        try:
            picture = Keypoints.of(read_image(path))
        except UnreadableImage as error:
            print(f"left out: {error}", flush=True)
            continue
        name = as_text(path.name)
        for number, (keypoints, size) in enumerate(asked):
            score, box = locate(keypoints, size, picture)
            rows.append({"query": number, "picture": name, "similarity": None, "score": score, "box": box})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _asked(query: AlteredQuery) -> tuple[Keypoints, tuple[int, int]]:
    """Return the keypoints of a query's detail, and its (width, height)."""
    image = read_image(query.file)
    x1, y1, x2, y2 = query.query_box or (0, 0, *image.shape[1::-1])
    detail = np.ascontiguousarray(image[y1:y2, x1:x2])
    return Keypoints.of(detail), detail.shape[1::-1]
