"""Hard negatives (stage 2): pairs of unrelated images that the model takes for related.

Before each epoch a pool of training images is drawn and all its pairs are scored by mean(M1) + mean(M2). Two
images that come from one pair, or show parts of one photo, are never negatives of each other: the recipes
say so (the released code could not know).
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import cv2
import numpy as np
import torch

from segswap.images import resize
from segswap.matching.features import images_to_tensor
from segswap.models.segswap import SegSwap
from segswap.pairs.shards import PairSet
from segswap.progress import progress
from segswap.randomness import generator


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


def pool_features(model: SegSwap, sets: list[PairSet], pool: list[PoolImage], device: torch.device) -> torch.Tensor:
    """Return the pool's features, float16 (n, C, h, w), on the device."""
    chunks = []
    for start in range(0, len(pool), 16):
        images = images_to_tensor([read_pool_image(sets, image) for image in pool[start : start + 16]], device)
        chunks.append(model.features(images).half())
    return torch.cat(chunks)


@torch.inference_mode()
def score_pool(
    model: SegSwap, features: torch.Tensor, photos: list[frozenset[int]], settings: MiningSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Score all honest pairs of a pool.

    Returns:
        pairs int64 (P, 2) and scores float32 (P,): mean(M1) + mean(M2), 0 where at most ``zero_below``.
    """
    pairs = np.array(
        [(i, j) for i, j in itertools.combinations(range(len(photos)), 2) if not photos[i] & photos[j]], np.int64
    ).reshape(-1, 2)
    scores = np.empty(len(pairs), np.float32)
    training = model.matcher.training
    model.matcher.eval()
    for start in progress(range(0, len(pairs), settings.scoring_batch), "scoring pool"):
        chunk = pairs[start : start + settings.scoring_batch]
        first, second = model.matcher(features[chunk[:, 0]].float(), features[chunk[:, 1]].float())
        score = first[:, 2].mean(dim=(1, 2)) + second[:, 2].mean(dim=(1, 2))
        scores[start : start + len(chunk)] = score.cpu().numpy()
    model.matcher.train(training)
    scores[scores <= settings.zero_below] = 0
    return pairs, scores


@dataclasses.dataclass(frozen=True)
class Mined:
    """The hard negatives of an epoch.

    Attributes:
        pool: its images.
        pairs: int64 (P, 2), positions in the pool, of the pairs with a score above 0.
        scores: float32 (P,).
        n_hard: pairs above ``hard_above``.
    """

    pool: list[PoolImage]
    pairs: np.ndarray
    scores: np.ndarray
    n_hard: int

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw pairs without replacement, with probability proportional to their score: int64 (count, 2)."""
        count = min(count, len(self.pairs))
        chosen = rng.choice(len(self.pairs), count, replace=False, p=self.scores / self.scores.sum(dtype=np.float64))
        return self.pairs[chosen]

    def to_plain(self) -> dict[str, Any]:
        """Return the content as plain values, for a checkpoint."""
        return {
            "pool": [dataclasses.astuple(image) for image in self.pool],
            "pairs": self.pairs.tolist(),
            "scores": self.scores.tolist(),
            "n_hard": self.n_hard,
        }

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> Mined:
        """Rebuild from ``to_plain``."""
        return cls(
            [
                PoolImage(which, position, name, tuple(box), flip)
                for which, position, name, box, flip in content["pool"]
            ],
            np.array(content["pairs"], np.int64).reshape(-1, 2),
            np.array(content["scores"], np.float32),
            content["n_hard"],
        )


def mine(
    model: SegSwap,
    sets: list[PairSet],
    settings: MiningSettings,
    stylise: float,
    address: tuple[int, int],
    device: torch.device,
) -> Mined | None:
    """Draw and score pools until one has enough hard pairs; None when ``max_pools`` pools had too few.

    Args:
        address: (seed, epoch).
        stylise: chance of a stylised picture.
    """
    seed, epoch = address
    for attempt in range(settings.max_pools):
        pool = draw_pool(sets, settings, stylise, generator(seed, "pool", epoch, attempt))
        features = pool_features(model, sets, pool, device)
        pairs, scores = score_pool(model, features, pool_photos(sets, pool), settings)
        n_hard = int((scores > settings.hard_above).sum())
        print(f"epoch {epoch}: pool {attempt}, {len(pairs)} pairs, {n_hard} hard", flush=True)
        if n_hard > settings.min_hard:
            kept = scores > 0
            return Mined(pool, pairs[kept], scores[kept], n_hard)
    return None
