"""Hard negatives (stage 2): pairs of unrelated images that the model takes for related.

Before each epoch a pool of training images is drawn and all its pairs are scored by mean(M1) + mean(M2). Two
images that come from one pair, or show parts of one photo, are never negatives of each other: the recipes
say so (the released code could not know).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from segswap.matching.features import images_to_tensor
from segswap.models.segswap import SegSwap
from segswap.pairs.pair_set import PairSet
from segswap.progress import progress
from segswap.randomness import generator
from segswap.training.pools import MiningSettings, PoolImage, draw_pool, pool_photos, read_pool_image
from segswap.training.step import Execution


def pool_features(model: SegSwap, sets: list[PairSet], pool: list[PoolImage], execution: Execution) -> torch.Tensor:
    """Return the pool's features, float16 (n, C, h, w), on the device: 1 GB for 500 images as published."""
    chunks = []
    for start in progress(range(0, len(pool), 16), "features of the pool", disable=not execution.processes.first):
        pictures = [read_pool_image(sets, image) for image in pool[start : start + 16]]
        with execution.autocast():
            chunks.append(model.features(images_to_tensor(pictures, execution.device)).half())
    return torch.cat(chunks)


@torch.inference_mode()
def score_pool(
    model: SegSwap,
    features: torch.Tensor,
    photos: list[frozenset[int]],
    settings: MiningSettings,
    execution: Execution,
) -> tuple[np.ndarray, np.ndarray]:
    """Score all honest pairs of a pool; each process scores its share.

    Beside the features nothing is held but ``scoring_batch`` pairs' outputs and one number for each pair.

    Returns:
        pairs int64 (P, 2) and scores float32 (P,): mean(M1) + mean(M2), 0 where at most ``zero_below``.
    """
    pairs = honest_pairs(photos)
    scores = torch.zeros(len(pairs), device=execution.device)
    processes, size = execution.processes, settings.scoring_batch
    training = model.matcher.training
    model.matcher.eval()
    own = range(processes.rank * size, len(pairs), processes.count * size)
    for start in progress(own, "scoring pool", disable=not processes.first):
        first, second = torch.from_numpy(pairs[start : start + size].T).to(execution.device)
        with execution.autocast():
            maps = model.matcher(features[first].float(), features[second].float())
        scores[start : start + size] = sum(side[:, 2].mean(dim=(1, 2)) for side in maps)
    model.matcher.train(training)
    scores = processes.total(scores).cpu().numpy()
    scores[scores <= settings.zero_below] = 0
    return pairs, scores


def honest_pairs(photos: list[frozenset[int]]) -> np.ndarray:
    """Return the pairs of images that show no photo in common, int64 (P, 2), first below second, in order.

    Args:
        photos: ids of the photos that each image shows parts of.
    """
    images_of: dict[int, list[int]] = {}
    for image, ids in enumerate(photos):
        for photo in ids:
            images_of.setdefault(photo, []).append(image)
    honest = np.ones((len(photos), len(photos)), bool)
    for images in images_of.values():
        honest[np.ix_(images, images)] = False
    return np.argwhere(np.triu(honest, 1))


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
    execution: Execution,
) -> Mined | None:
    """Draw and score pools until one has enough hard pairs; None when ``max_pools`` pools had too few.

    Args:
        address: (seed, epoch).
        stylise: chance of a stylised picture.
    """
    seed, epoch = address
    for attempt in range(settings.max_pools):
        pool = draw_pool(sets, settings, stylise, generator(seed, "pool", epoch, attempt))
        features = pool_features(model, sets, pool, execution)
        pairs, scores = score_pool(model, features, pool_photos(sets, pool), settings, execution)
        n_hard = int((scores > settings.hard_above).sum())
        if execution.processes.first:
            print(f"epoch {epoch}: pool {attempt}, {len(pairs)} pairs, {n_hard} hard", flush=True)
        if n_hard > settings.min_hard:
            kept = scores > 0
            return Mined(pool, pairs[kept], scores[kept], n_hard)
    return None
