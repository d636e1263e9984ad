"""Pools of training images in which hard negatives are found: drawing them, reading them, the file of scored pools."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segswap.files import whole_file
from segswap.images import resize
from segswap.pairs.pair_set import PairSet


@dataclasses.dataclass(frozen=True)
class MiningSettings:
    """How hard negatives are found and used; published values in the defaults of the configuration.

    Attributes:
        pool_size: images in a pool.
        crop_scale: bounds of the random crop's share of the image area.
        zero_below: scores up to this count as 0.
        hard_above: scores above this are hard.
        min_hard: a pool with no more hard pairs than this is drawn again.
        max_pools: pools drawn for one epoch before stage 2 ends: the model has no hard negatives left.
        per_step: hard negatives added to each batch.
        max_steps: most steps of an epoch; it has one per hard pair.
        scoring_batch: pairs scored at once.
    """

    pool_size: int
    crop_scale: tuple[float, float]
    zero_below: float
    hard_above: float
    min_hard: int
    max_pools: int
    per_step: int
    max_steps: int
    scoring_batch: int


@dataclasses.dataclass(frozen=True)
class PoolImage:
    """One image of a pool: a picture of a pair, randomly cropped and flipped.

    Attributes:
        which, position: the set and the pair's position in it.
        name: picture member, for example ``bs.jpg``.
        box: crop (x, y, width, height) as shares of the image.
        flip: mirrored left-right.
    """

    which: int
    position: int
    name: str
    box: tuple[float, float, float, float]
    flip: bool


def draw_pool(
    sets: list[PairSet], settings: MiningSettings, stylise: float, rng: np.random.Generator
) -> list[PoolImage]:
    """Draw a pool: distinct pairs, a or b equally likely, stylised with probability ``stylise``."""
    sizes = [len(pairs) for pairs in sets]
    chosen = rng.choice(sum(sizes), min(settings.pool_size, sum(sizes)), replace=False)
    pool = []
    for number in chosen:
        which = int(number >= sizes[0])
        side = "ab"[rng.integers(2)]
        name = f"{side}s.jpg" if rng.uniform() < stylise else f"{side}.jpg"
        pool.append(
            PoolImage(
                which=which,
                position=int(number) - which * sizes[0],
                name=name,
                box=_random_crop(rng, settings.crop_scale),
                flip=bool(rng.uniform() < 0.5),
            )
        )
    return pool


def _random_crop(rng: np.random.Generator, scale: tuple[float, float]) -> tuple[float, float, float, float]:
    """Draw a box of random area and aspect (3/4 to 4/3) inside the unit square."""
    area, aspect = rng.uniform(*scale), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = min(1.0, float(np.sqrt(area * aspect))), min(1.0, float(np.sqrt(area / aspect)))
    return float(rng.uniform(0, 1 - width)), float(rng.uniform(0, 1 - height)), width, height


def read_pool_image(sets: list[PairSet], image: PoolImage) -> np.ndarray:
    """Return a pool image's picture at the size of the set's, RGB uint8 (S, S, 3)."""
    picture = sets[image.which].picture(image.position, image.name)
    height, width = picture.shape[:2]
    x, y, box_width, box_height = image.box
    left, top = int(x * width), int(y * height)
    crop = picture[top : top + max(1, round(box_height * height)), left : left + max(1, round(box_width * width))]
    crop = resize(crop, (width, height))
    return cv2.flip(crop, 1) if image.flip else crop


def pool_photos(sets: list[PairSet], pool: list[PoolImage]) -> list[frozenset[int]]:
    """Return the ids of the photos that each pool image shows parts of."""
    photos = []
    for image in pool:
        source, target = sets[image.which].photos(image.position)
        photos.append(frozenset([source] if image.name.startswith("a") else [source, target]))
    return photos


_SIDE = [
    ("set", pa.int8()),
    ("position", pa.int64()),
    ("key", pa.string()),
    ("member", pa.string()),
    ("box", pa.list_(pa.float64(), 4)),
    ("flip", pa.bool_()),
]
POOL_SCHEMA = pa.schema(
    [("epoch", pa.int32()), ("score", pa.float32())]
    + [(f"{side}_{name}", kind) for side in ("first", "second") for name, kind in _SIDE]
)
"""A scored pool: one row per pair with a score above 0, the hardest first."""


def _pool_file(folder: Path, epoch: int) -> Path:
    return folder / f"pool-{epoch:04d}.parquet"


def write_pool(
    folder: Path, epoch: int, sets: list[PairSet], pool: list[PoolImage], pairs: np.ndarray, scores: np.ndarray
) -> None:
    """Write the scored pool of an epoch to a file of its own.

    Args:
        folder: for ``join_pools``.
        epoch: before which the pool was scored.
        sets: that its images come from.
        pool: its images.
        pairs: int64 (P, 2), positions in the pool.
        scores: float32 (P,).
    """
    order = np.argsort(-scores, kind="stable")
    columns: dict[str, Any] = {"epoch": np.full(len(order), epoch), "score": scores[order]}
    for side, places in zip(("first", "second"), pairs[order].T, strict=True):
        images = [pool[place] for place in places]
        columns[f"{side}_set"] = [image.which for image in images]
        columns[f"{side}_position"] = [image.position for image in images]
        columns[f"{side}_key"] = [sets[image.which].key(image.position) for image in images]
        columns[f"{side}_member"] = [image.name for image in images]
        columns[f"{side}_box"] = [image.box for image in images]
        columns[f"{side}_flip"] = [image.flip for image in images]
    with whole_file(_pool_file(folder, epoch)) as temporary:
        pq.write_table(pa.table(columns, POOL_SCHEMA), temporary, compression="zstd")


def join_pools(folder: Path, output: str | os.PathLike) -> None:
    """Join the pools of all epochs into one Parquet file, a row group for each epoch."""
    with whole_file(output) as temporary, pq.ParquetWriter(temporary, POOL_SCHEMA, compression="zstd") as writer:
        for path in sorted(folder.glob("pool-*.parquet")):
            table = pq.read_table(path, schema=POOL_SCHEMA)
            writer.write_table(table, row_group_size=len(table))


def read_pools(path: str | os.PathLike, count: int | None = None) -> Iterator[tuple[int, float, PoolImage, PoolImage]]:
    """Yield epoch, score and both images of pairs of the joined pools, epoch by epoch, the hardest first.

    Args:
        path: a file of ``join_pools``.
        count: pairs of each epoch; None: all, which may be millions.
    """
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            for row in file.read_row_group(group).slice(0, count).to_pylist():
                images = [
                    PoolImage(
                        which=row[f"{side}_set"],
                        position=row[f"{side}_position"],
                        name=row[f"{side}_member"],
                        box=tuple(row[f"{side}_box"]),
                        flip=row[f"{side}_flip"],
                    )
                    for side in ("first", "second")
                ]
                yield row["epoch"], row["score"], *images
