"""What every test may use: a small drawn world, made once, and the folder of measured numbers and real data."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, settings

from segswap.demo_world.coco import draw_coco, draw_style_images
from segswap.pairs.annotations import ObjectSettings
from segswap.pairs.coco import build_object_table
from segswap.pairs.objects import SCHEMA, ObjectTable
from segswap.pairs.pair_set import PairSet
from segswap.pairs.recipe import KINDS, PairSettings
from segswap.pairs.render import Photos
from segswap.pairs.shards import shard_indices, shard_name, write_set_manifest, write_shard
from segswap.pairs.style import Reinhard, StyleStatistics, compute_style_statistics

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

settings.register_profile(
    "segswap", deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("segswap")

# Hugging Face datasets reads local files alone: no test asks the network for anything.
os.environ["HF_HUB_OFFLINE"] = "1"

# Where the tests run in the background of a shell, Ctrl-C is ignored by all that they start; some press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# One thread for every library: test processes may run side by side, and sums must not depend on the cores.
# Commands that tests call, too, which would leave this process as many threads as there are cores.
os.environ["OMP_NUM_THREADS"] = "1"
cv2.setNumThreads(1)
torch.set_num_threads(1)

# The server that worker processes are forked from starts once; those of any test then find what they need in it.
multiprocessing.set_forkserver_preload(["segswap.training.batches"])

SEED = 1
N_IMAGES = 40
N_SHARDS = 2
PAIRS_PER_SHARD = 12
OBJECT_SETTINGS = ObjectSettings(min_area_share=0.01, max_area_share=0.6, max_bad_share=0.05)
PAIR_SETTINGS = PairSettings(
    size=128,
    dilation=4,
    crop_probability=0.2,
    stretch=(0.7, 1.0),
    rotation=15.0,
    fit_steps=10,
    fit_decay=10.0,
    fit_min={"1obj": 0.4, "2obj": 0.5},
    min_cells=1.5,
    max_attempts=200,
)


@dataclasses.dataclass(frozen=True)
class TinyWorld:
    """A drawn data set and the pair sets made of it.

    Attributes:
        root: folder of everything below.
        annotations, images: COCO file and photo folder (40 photos, one of them cut short).
        objects, problems: object table and what was left out of it.
        object_settings, pair_settings, seed: what table and pairs were made with.
        style_images, style_statistics: folder of 6 pictures and its statistics file (``reinhard``).
        pairs: manifest of each kind's set, ``1obj`` and ``2obj``: 2 shards of 12 restyled pairs of 128 pixels.
    """

    root: Path
    annotations: Path
    images: Path
    objects: Path
    problems: Path
    object_settings: ObjectSettings
    pair_settings: PairSettings
    seed: int
    style_images: Path
    style_statistics: Path
    pairs: dict[str, Path]

    def table(self) -> ObjectTable:
        """Read the object table."""
        return ObjectTable.read(self.objects)

    def photos(self) -> Photos:
        """Open the photos, none of them known as unreadable yet."""
        return Photos(self.table(), self.images)

    def styles(self) -> StyleStatistics:
        """Read the style statistics."""
        return StyleStatistics.read(self.style_statistics)

    def pair_set(self, kind: str) -> PairSet:
        """Open a pair set."""
        return PairSet(self.pairs[kind])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes longest, so that two processes end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with ``golden`` (measured numbers) and ``data`` (small real data sets); tests skip without it."""
    folder = os.environ.get("SEGSWAP_SHARED")
    if not folder:
        pytest.skip("set SEGSWAP_SHARED to the folder that holds golden/ and data/ to run this test")
    return Path(folder)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """In a test no more than a GB of memory beside what is taken already; more is a ``MemoryError``."""
    resource = pytest.importorskip("resource", reason="limits of memory are Unix's")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """A drawn data set, its object table, style statistics and both kinds of pair set, made once. Read only."""
    root = tmp_path_factory.mktemp("tiny_world")
    coco, style_images, pairs = root / "coco", root / "styles", root / "pairs"
    draw_coco(coco, SEED, "train", N_IMAGES)
    draw_style_images(style_images, SEED, 6)
    world = TinyWorld(
        root=root,
        annotations=coco / "annotations.json",
        images=coco / "images",
        objects=root / "objects.parquet",
        problems=root / "problems.json",
        object_settings=OBJECT_SETTINGS,
        pair_settings=PAIR_SETTINGS,
        seed=SEED,
        style_images=style_images,
        style_statistics=root / "styles.npz",
        pairs={kind: pairs / kind / "manifest.json" for kind in KINDS},
    )
    build_object_table(world.annotations, world.images, world.objects, world.problems, OBJECT_SETTINGS)
    compute_style_statistics(style_images, world.style_statistics, Reinhard())
    for kind, manifest in world.pairs.items():
        shards = [manifest.parent / shard_name(kind, number) for number in range(N_SHARDS)]
        for number, shard in enumerate(shards):
            indices = shard_indices(N_SHARDS * PAIRS_PER_SHARD, PAIRS_PER_SHARD, number)
            write_shard(
                world.photos(),
                PAIR_SETTINGS,
                Reinhard(),
                world.styles(),
                (SEED, kind),
                indices,
                shard,
                shard.with_suffix(".parquet"),
                jpeg_quality=95,
                max_unreadable_share=OBJECT_SETTINGS.max_bad_share,
            )
        write_set_manifest(shards, manifest, kind, dataclasses.asdict(PAIR_SETTINGS))
    return world


@pytest.fixture(scope="session")
def make_table() -> Callable[..., ObjectTable]:
    """A function that makes an object table of rows ``(image_id, category_id, polygon)``, crowds apart.

    ``polygon`` is a flat list x, y, ... in pixels of an image of ``size`` = (width, height); photos are named
    ``<image_id>.png``, annotation ids are the positions from 1. Positions in ``crowds`` are crowds.
    """

    def make(
        objects: list[tuple[int, int, list[float]]], size: tuple[int, int], crowds: tuple[int, ...] = ()
    ) -> ObjectTable:
        rows = [
            {
                "image_id": image_id,
                "file_name": f"{image_id}.png",
                "width": size[0],
                "height": size[1],
                "annotation_id": position + 1,
                "category_id": category_id,
                "category": f"category {category_id}",
                "area": 1.0,
                "bbox": [0.0, 0.0, 1.0, 1.0],
                "segmentation": json.dumps([polygon]),
                "iscrowd": position in crowds,
                "touches_border": False,
            }
            for position, (image_id, category_id, polygon) in enumerate(objects)
        ]
        return ObjectTable(pa.Table.from_pylist(sorted(rows, key=lambda row: row["image_id"]), schema=SCHEMA))

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; tests skip where none is installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium on this machine: install it (Debian: apt-get install chromium) to run this test")
    from playwright.sync_api import sync_playwright  # not loaded by tests that need no browser

    with sync_playwright() as playwright:
        # Containers run as root, where Chromium's sandbox cannot start.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def show(browser) -> Iterator[Callable[..., Page]]:
    """A function that opens a file, offline, in a colour scheme and width; at the end nothing may have gone wrong.

    Nor may the page have asked for anything but files. ``warnings``: whether the console may not even have warnings.
    """
    said, contexts = [], []

    def opened(path: Path, scheme: str = "light", width: int = 1280, warnings: bool = True) -> Page:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if warnings or message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        own = ("file:", "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(own) else said.append(f"asked {request.url}"))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url[:80]}"))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
