"""Batches straight from shards: what a step sees is a pure function of the seed and the step's number.

The pairs of a set are visited in a new random order each pass, every pair once a pass; one- and two-object
sets are mixed in a fixed proportion. Step t of process r of R takes the draws (t * R + r) * B to
(t * R + r + 1) * B - 1, so processes share the data without loss or duplicates, and a resumed run goes on
with the very next pair.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import lru_cache
from multiprocessing.reduction import ForkingPickler

import numpy as np
import torch

from segswap.errors import InputError
from segswap.matching.features import FeatureStore
from segswap.pairs.pair_set import PairSet, picture_name
from segswap.pairs.render import Labels
from segswap.randomness import generator
from segswap.training.losses import Targets
from segswap.training.photometric import UNCHANGED, Changes, PhotometricSettings, draw_changes
from segswap.workers import process_pool


@dataclasses.dataclass(frozen=True)
class BatchSettings:
    """What a batch is made of; published values in the defaults of the configuration.

    Attributes:
        positives: positive pairs.
        negatives: negative pairs, first images with second images shifted by 1, then 2, ...
        two_object_share: share of two-object pairs among the positives.
        stylise_probability: chance that an image is replaced by its stylised version, each on its own.
        warp_probability: chance that image b is warped by a thin-plate spline, each on its own.
        warp_grids: sizes of the spline's control grid, equally likely.
        hide_probability: chance that the cells of b outside its mask are hidden from the matcher, each.
        swap_probability: chance that a and b exchange roles, for the whole batch.
        photometric: how strongly each image, plain or stylised, is changed in brightness, colour and sharpness.
    """

    positives: int
    negatives: int
    two_object_share: float
    stylise_probability: float
    warp_probability: float
    warp_grids: Sequence[int]
    hide_probability: float
    swap_probability: float
    photometric: PhotometricSettings = UNCHANGED


@dataclasses.dataclass(frozen=True)
class Inputs:
    """One side of a batch: of each image either its stored features or its pixels.

    Attributes:
        images: uint8 (n, 3, H, W), of the rows ``image_rows``.
        features: float32 (m, C, h, w), of the other rows, ``feature_rows``; None when there are none.
        changes: photometric changes that the images get on the training's device; None when there are none.
    """

    images: torch.Tensor
    image_rows: torch.Tensor
    features: torch.Tensor | None
    feature_rows: torch.Tensor
    changes: Changes | None = None


@dataclasses.dataclass(frozen=True)
class Batch:
    """One step's pairs, before warping.

    Attributes:
        a, b: the two sides.
        targets: labels.
        keys: per pair, the names of the two pictures taken.
        photos_a, photos_b: ids of the photos that image a, and image b, show parts of.
        warp: bool (B,): whose image b is to be warped; those are always given as pixels.
        warp_random: float (B, K, 2) in [0, 1): the spline of each.
        hide: bool (B,): whose background in b is to be hidden.
        swap: whether roles are exchanged.
    """

    a: Inputs
    b: Inputs
    targets: Targets
    keys: list[tuple[str, str]]
    photos_a: list[frozenset[int]]
    photos_b: list[frozenset[int]]
    warp: torch.Tensor
    warp_random: torch.Tensor
    hide: torch.Tensor
    swap: bool


def negative_indices(positives: int, negatives: int) -> tuple[list[int], list[int]]:
    """Return the positions of the first and second images of the negatives in a batch."""
    first = [n % positives for n in range(negatives)]
    second = [(n + 1 + n // positives) % positives for n in range(negatives)]
    return first, second


@lru_cache(maxsize=4)
def _order(seed: int, which: int, pass_number: int, length: int) -> np.ndarray:
    """Return the order in which a pass visits the pairs of a set."""
    return generator(seed, "order", which, pass_number).permutation(length)


class PairBatches:
    """Batches by step number."""

    def __init__(
        self,
        manifests: Sequence[str | os.PathLike],
        settings: BatchSettings,
        seed: int,
        features: Sequence[FeatureStore] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Open the pair sets.

        Args:
            manifests: ``manifest.json`` of the one-object set, then of the two-object set.
            settings: the batch.
            seed: of the order and of every choice.
            features: stores of the sets' pictures (``pair_picture_names``); None: features are computed anew.
            rank, world_size: this process among all.

        Raises:
            InputError: when a set is damaged, or too small, or has no stylised pictures though they are asked for; or
                when pictures are to be changed whose features are stored.
        """
        self.sets = [PairSet(manifest) for manifest in manifests]
        self.settings, self.seed, self.features = settings, seed, features
        self.rank, self.world_size = rank, world_size
        self.excluded: frozenset[tuple[int, int]] = frozenset()
        if settings.negatives > settings.positives * (settings.positives - 1):
            raise InputError(
                f"train.batch.negatives {settings.negatives}: {settings.positives} positives make at most "
                f"{settings.positives * (settings.positives - 1)} negatives"
            )
        if features and settings.photometric.changing:
            raise InputError(
                "train.batch.photometric: stored features are those of unchanged pictures; set train.store_features to "
                "false (leave out --features), or every strength to 0"
            )
        for manifest, pairs in zip(manifests, self.sets, strict=True):
            if settings.stylise_probability > 0 and "as.jpg" not in pairs.pictures:
                raise InputError(
                    f"{manifest}: the set was made without style; make it with another style.method, or set "
                    "train.batch.stylise_probability to 0"
                )
            if len(pairs) < settings.positives:
                raise InputError(f"{manifest}: {len(pairs)} pairs, fewer than a batch of {settings.positives}")

    def positions(self, step: int) -> list[tuple[int, int]]:
        """Return (set, position in the set) of a step's pairs; excluded ones are replaced."""
        share = self.settings.two_object_share
        first = (step * self.world_size + self.rank) * self.settings.positives
        found = []
        for draw in range(first, first + self.settings.positives):
            # The nth draw is a two-object pair whenever n * share passes the next whole number.
            which = int((draw + 1) * share) - int(draw * share)
            count = int(draw * share) if which else draw - int(draw * share)
            length = len(self.sets[which])
            pass_number, place = divmod(count, length)
            pair = which, int(_order(self.seed, which, pass_number, length)[place])
            if pair in self.excluded:
                rng = generator(self.seed, "replacement", draw)
                while pair in self.excluded:
                    pair = which, int(rng.integers(length))
            found.append(pair)
        return found

    def __getitem__(self, step: int) -> Batch:
        settings = self.settings
        rng = generator(self.seed, "batch", step, self.rank)
        n = settings.positives
        styled = rng.uniform(size=(n, 2)) < settings.stylise_probability
        warp = rng.uniform(size=n) < settings.warp_probability
        grid = int(rng.choice(settings.warp_grids))
        warp_random = rng.uniform(size=(n, grid * grid, 2))
        hide = rng.uniform(size=n) < settings.hide_probability
        swap = bool(rng.uniform() < settings.swap_probability)
        changes_a, changes_b = self._changes(step)
        pairs = self.positions(step)
        names = [("as.jpg" if a else "a.jpg", "bs.jpg" if b else "b.jpg") for a, b in styled]
        photos = [self.sets[which].photos(position) for which, position in pairs]
        return Batch(
            a=self._inputs(pairs, [a for a, _ in names], np.zeros(n, bool), changes_a),
            b=self._inputs(pairs, [b for _, b in names], warp, changes_b),
            targets=_stack_labels([self.sets[which].labels(position) for which, position in pairs]),
            keys=[
                tuple(f"{self.sets[which].key(position)}.{name}" for name in both)
                for (which, position), both in zip(pairs, names, strict=True)
            ],
            photos_a=[frozenset([source]) for source, _ in photos],
            photos_b=[frozenset(both) for both in photos],
            warp=torch.from_numpy(warp),
            warp_random=torch.from_numpy(warp_random.astype(np.float32)),
            hide=torch.from_numpy(hide),
            swap=swap,
        )

    def _changes(self, step: int) -> tuple[Changes | None, Changes | None]:
        """Draw the photometric changes of both sides; nothing else of the batch depends on them."""
        settings = self.settings.photometric
        if not settings.changing:
            return None, None
        rng = generator(self.seed, "photometric", step, self.rank)
        first, second = (draw_changes(settings, rng, self.settings.positives) for _ in "ab")
        return first, second

    def _inputs(
        self, pairs: list[tuple[int, int]], names: list[str], pixels: np.ndarray, changes: Changes | None
    ) -> Inputs:
        """Read one side of a batch: pixels where they are needed or nothing is stored, else features."""
        by_pixels = pixels if self.features else np.ones(len(pairs), bool)
        images, features = [], []
        for (which, position), name, as_pixels in zip(pairs, names, by_pixels, strict=True):
            if as_pixels:
                images.append(self.sets[which].picture(position, name))
            else:
                store = self.features[which]
                features.append(store.read([store.place(picture_name(self.sets[which], position, name))]))
        return Inputs(
            images=_stack_images(images),
            image_rows=torch.from_numpy(np.flatnonzero(by_pixels)),
            features=torch.cat(features) if features else None,
            feature_rows=torch.from_numpy(np.flatnonzero(~by_pixels)),
            changes=changes,
        )


def _stack_images(images: list[np.ndarray]) -> torch.Tensor:
    """Stack RGB pictures to uint8 (B, 3, H, W); none give an empty tensor."""
    if not images:
        return torch.empty(0, 3, 0, 0, dtype=torch.uint8)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def _stack_labels(labels: list[Labels]) -> Targets:
    def stack(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(label, name) for label in labels]))

    return Targets(stack("mask_a")[:, None], stack("mask_b")[:, None], stack("corr_a"), stack("corr_b"))


_AHEAD = 2
"""Batches that wait, or are in the making, for each worker process."""

_FEWER = "lower compute.workers; with 0 no worker process is needed"


def load_batches(batches: PairBatches, start: int, stop: int, workers: int) -> Iterator[Batch]:
    """Yield the batches of steps start to stop - 1, in order, decoded ahead by worker processes (0: in line).

    Raises:
        InputError: what reading a batch raises; when a worker process ends or is stopped; when the shared memory is
            full through which batches come.
    """
    if not workers:
        yield from map(batches.__getitem__, range(start, stop))
        return
    with process_pool(workers, _FEWER, _serve, (batches,)) as pool:
        waiting: deque[Future[bytes]] = deque()
        for step in range(start, stop):
            waiting.append(pool.submit(_served_batch, step))
            if len(waiting) > _AHEAD * workers:
                yield _received(waiting.popleft())
        while waiting:
            yield _received(waiting.popleft())


@contextlib.contextmanager
def _shared_memory() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:  # torch has no exception of its own for it
        raise InputError(
            f"batches come through shared memory, and that failed ({error}): /dev/shm may be full, or the number of "
            f"open files limited (ulimit -n). Make it larger (containers: --shm-size=2g), or {_FEWER}"
        ) from None


def _received(packed: Future[bytes]) -> Batch:
    data = packed.result()
    with _shared_memory():
        return pickle.loads(data)


_SERVED: list[PairBatches] = []
"""In a worker process, what it makes batches of: sent once, as it can be large."""


def _serve(batches: PairBatches) -> None:
    import cv2

    # Worker processes and threads of libraries would together be more threads than there are cores.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _SERVED[:] = [batches]


def _served_batch(step: int) -> bytes:
    """Return a batch, packed here as it would be on its way: a fault of the way is then told from all others."""
    batch = _SERVED[0][step]
    with _shared_memory():
        return bytes(ForkingPickler.dumps(batch))
