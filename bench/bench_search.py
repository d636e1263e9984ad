"""Pictures of one's own: finding a detail in a folder, keeping its index up to date, and trying turned versions.

    python bench/bench_search.py --quick                    # 24 drawn pictures, under 90 s on one core
    python bench/bench_search.py --pictures paintings       # 48 pictures of a folder

Four comparisons with the plain form, one thread; EfficientNet-Lite0 with its ImageNet weights, an untrained matcher:

- ``search``: a detail in all pictures. Here: cells of 64 numbers, one byte each, at six sizes, and the matcher at the
  8 best places. Plain: all 384 channels of three blocks as float32, centred, at three sizes, one convolution a picture
  and size, and the matcher at the 8 best places, the query at twice the side. Both have what can be computed before a
  query comes.
- ``windows``: the best window of every picture, from the same cells. Here: a product of matrices, summed along
  diagonals. Plain: a convolution for each size.
- ``index_update``: an index to which 1 % of pictures are added. Plain: an index made anew. Small pictures, a model of
  the demo's size.
- ``turns``: eight turned and mirrored versions of a query in one search. Plain: eight searches.

The last line is JSON: ratios are the plain form's time divided by ours, medians of alternating runs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import itertools
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from timing import alternate, print_result
from torch.nn import functional as F

from segswap.geometry import STRIDE
from segswap.images import encode_jpeg, resize
from segswap.matching.crops import Box
from segswap.matching.features import images_to_tensor
from segswap.matching.match import AS_GIVEN, match_features, turns
from segswap.models.backbones import backbone_settings
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import load_backbone
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator
from segswap.search.cells import projected
from segswap.search.index import Index, open_index
from segswap.search.query import Query, read_query
from segswap.search.search import SearchSettings, search
from segswap.search.windows import QUERY_SIDE, Grid, best_window, fitted_size, margins

PLAIN_SIDES = (384, 512, 704)
"""Shorter sides of pictures in the plain form."""

PLAIN_MARGIN = 0.3
MATCHED = 8

Seconds = tuple[float, dict[str, float]]
"""A ratio, and the seconds behind it."""


def make_model() -> SegSwap:
    """Return EfficientNet-Lite0 with an untrained matcher of the size that real pictures take."""
    torch.manual_seed(0)
    backbone = load_backbone("package", backbone_settings({"architecture": "efficientnet_lite0"}))
    return SegSwap(backbone, Transformer(TransformerSettings("small", backbone.channels, 0.0, "matching"))).eval()


def make_small_model() -> SegSwap:
    """Return an untrained model of the demo's size."""
    torch.manual_seed(0)
    backbone = ResNet(ResNetSettings("resnet10", 32, 128))
    return SegSwap(backbone, Transformer(TransformerSettings("tiny", 128, 0.0, "matching"))).eval()


def write_pictures(folder: Path, numbers: range, size: tuple[int, int]) -> None:
    """Write pictures of soft noise, (width, height) each."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        small = generator(number, "bench search").integers(0, 256, (size[1] // 12, size[0] // 12, 3), np.uint8)
        (folder / f"{number:05d}.jpg").write_bytes(encode_jpeg(cv2.resize(small, size)))


def quiet_index(folder: Path, model: SegSwap, store: Path) -> Index:
    """Open an index without its words and bars."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return open_index(folder, model, store)


def make_query(index: Index) -> Query:
    """Return a detail of the first picture, a quarter of its shorter side, a little larger and darker."""
    picture = index.read(0)
    side = min(picture.shape[:2]) // 4
    y, x = (length // 2 for length in picture.shape[:2])
    detail = resize(picture[y : y + side, x : x + side], (round(1.2 * side), round(1.2 * side)))
    return read_query((255 * (detail / 255) ** 1.3).astype(np.uint8), None)


@dataclasses.dataclass(frozen=True)
class PlainSearch:
    """The plain form: full features, a convolution for each picture and size, then the matcher.

    Attributes:
        model: of both looks.
        index: of the same pictures, that reads them.
        mean: of the features of all cells, (C, 1, 1).
        levels: of each picture its centred features at three sizes, unit vectors (C, h, w).
    """

    model: SegSwap
    index: Index
    mean: torch.Tensor
    levels: list[list[torch.Tensor]]

    @classmethod
    def of(cls, model: SegSwap, index: Index) -> PlainSearch:
        """Compute the features of all pictures."""
        raw = []
        for number in range(len(index)):
            picture = index.read(number)
            sides = [side / min(picture.shape[:2]) for side in PLAIN_SIDES]
            raw.append([features(model, scaled(picture, scale)) for scale in sides])
        cells = torch.cat([level.flatten(1) for levels in raw for level in levels], 1)
        mean = cells.mean(1)[:, None, None]
        return cls(model, index, mean, [[F.normalize(level - mean, dim=0) for level in levels] for levels in raw])

    def __call__(self, query: Query) -> tuple[list[int], list[int]]:
        """Return the numbers of the pictures that the matcher sees, by their windows and as the matcher orders them."""
        longer = max(query.detail.shape[:2])
        kernel = features(self.model, scaled(query.detail, QUERY_SIDE / longer))
        kernel = F.normalize(kernel - self.mean, dim=0)
        found = []
        for number, levels in enumerate(self.levels):
            scores = [F.conv2d(level[None], kernel[None])[0, 0] / kernel[0].numel() for level in levels]
            best = max(scores, key=lambda of_level: float(of_level.max()))
            window = self._window(number, int(best.argmax()), best.shape, kernel.shape[1:])
            found.append((float(best.max()), number, window))
        found = sorted(found, reverse=True)[:MATCHED]
        x = features(self.model, scaled(query.detail, 2 * QUERY_SIDE / longer))[None]
        agreement = {number: self._agreement(number, window, x) for _, number, window in found}
        return [number for _, number, _ in found], sorted(agreement, key=agreement.__getitem__, reverse=True)

    def _window(self, number: int, place: int, places: Grid, kernel: Grid) -> Box:
        """Return the window at a flat place of all (rows, columns) of them, in pixels of its picture."""
        row, column = divmod(place, places[1])
        y, x = (
            length / (count + cells - 1)
            for length, count, cells in zip(self.index.size(number)[::-1], places, kernel, strict=True)
        )
        return column * x, row * y, (column + kernel[1]) * x, (row + kernel[0]) * y

    def _agreement(self, number: int, window: Box, x: torch.Tensor) -> float:
        """Return the symmetric score of a query with a window and its margin, over the query's cells."""
        picture = self.index.read(number)
        x1, y1, x2, y2 = window
        beside, above = PLAIN_MARGIN * (x2 - x1), PLAIN_MARGIN * (y2 - y1)
        top, left = max(0, round(y1 - above)), max(0, round(x1 - beside))
        crop = picture[top : round(y2 + above), left : round(x2 + beside)]
        cells = x.shape[2] * x.shape[3]
        scale = STRIDE * math.sqrt(cells / ((x2 - x1) * (y2 - y1)))
        y = features(self.model, scaled(crop, scale))[None]
        return match_features(self.model.matcher, x, {AS_GIVEN: y}).score / cells


def scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    """Return a picture at another scale, its sides multiples of 16."""
    return resize(picture, tuple(max(1, round(length * scale / STRIDE)) * STRIDE for length in picture.shape[1::-1]))


def features(model: SegSwap, picture: np.ndarray) -> torch.Tensor:
    """Return the features (C, h, w) of a picture."""
    return model.features(images_to_tensor([picture], torch.device("cpu")))[0].contiguous()


@torch.inference_mode()
def compare_search(model: SegSwap, index: Index, rounds: int) -> Seconds:
    """Return the ratio of a search with its defaults to the plain form."""
    query, plain = make_query(index), PlainSearch.of(model, index)

    def ours() -> list[int]:
        with contextlib.redirect_stderr(io.StringIO()):
            return [hit.number for hit in search(index, model, query, SearchSettings()).hits if hit.mask is not None]

    seconds, found = alternate({"ours": ours, "plain": lambda: plain(query)}, rounds)
    assert 0 in found["ours"] and 0 in found["plain"][0], "the picture of the detail is not among those matched"
    print(f"search of {len(index)} pictures: plain {seconds['plain']:.2f} s, here {seconds['ours']:.2f} s")
    per_picture = sum(level.nbytes for levels in plain.levels for level in levels) / len(index)
    return seconds["plain"] / seconds["ours"], {
        "pictures": len(index),
        "search_s": seconds["ours"],
        "search_plain_s": seconds["plain"],
        "picture_mb": index.bytes / len(index) / 1e6,
        "picture_plain_mb": per_picture / 1e6,
    }


def convolved(levels: Sequence[torch.Tensor], query: torch.Tensor) -> float:
    """Return the score of a picture's best window; cells (K, h, w)."""
    return max(
        float(F.conv2d(cells[None], query[None], padding=margins(cells.shape[1:], query.shape[1:])).max())
        / query[0].numel()
        for cells in levels
    )


@torch.inference_mode()
def compare_windows(model: SegSwap, index: Index, rounds: int) -> Seconds:
    """Return the ratio of sums along diagonals to convolutions."""
    detail = make_query(index).detail
    query = projected(model, index.projection, resize(detail, fitted_size(detail.shape[1::-1], QUERY_SIDE)))
    pictures = [index.levels(number) for number in range(len(index))]
    size = index.size(0)
    turned = [[cells.permute(2, 0, 1).contiguous() for cells in levels.maps()] for levels in pictures]
    kernel = query.permute(2, 0, 1).contiguous()
    ways = {
        "ours": lambda: [best_window(0, size, levels, [query]).score for levels in pictures],
        "plain": lambda: [convolved(levels, kernel) for levels in turned],
    }
    seconds, found = alternate(ways, rounds)
    np.testing.assert_allclose(found["ours"], found["plain"], atol=1e-5)
    each = {name: 1000 * value / len(index) for name, value in seconds.items()}
    print(f"windows of a picture: convolutions {each['plain']:.2f} ms, diagonals {each['ours']:.2f} ms")
    return seconds["plain"] / seconds["ours"], {"windows_ms": each["ours"], "windows_plain_ms": each["plain"]}


def compare_update(scratch: Path, count: int, rounds: int) -> Seconds:
    """Return the ratio of bringing an index up to date to making it anew."""
    model, folder, store = make_small_model(), scratch / "growing", scratch / "growing store"
    write_pictures(folder, range(count), (72, 48))
    quiet_index(folder, model, store)
    write_pictures(folder, range(count, count + count // 100), (72, 48))
    fresh = itertools.count()

    def update() -> int:
        copy = scratch / f"copy-{next(fresh)}"
        shutil.copytree(store, copy)
        return len(quiet_index(folder, model, copy))

    def anew() -> int:
        return len(quiet_index(folder, model, scratch / f"new-{next(fresh)}"))

    seconds, found = alternate({"ours": update, "plain": anew}, rounds)
    assert found["ours"] == found["plain"] == count + count // 100
    print(f"index of {count} with 1 % more: anew {seconds['plain']:.2f} s, updated {seconds['ours']:.2f} s")
    return seconds["plain"] / seconds["ours"], {"update_s": seconds["ours"], "anew_s": seconds["plain"]}


def compare_turns(model: SegSwap, index: Index, rounds: int) -> Seconds:
    """Return the ratio of one search for eight versions to eight searches."""
    query, versions = make_query(index), turns(rotations=True, flips=True)

    def together() -> float:
        with contextlib.redirect_stderr(io.StringIO()):
            return max(h.similarity for h in search(index, model, query, SearchSettings(turns=versions)).hits)

    def apart() -> float:
        with contextlib.redirect_stderr(io.StringIO()):
            searches = [search(index, model, query, SearchSettings(turns=(turn,))) for turn in versions]
        return max(hit.similarity for result in searches for hit in result.hits)

    seconds, scores = alternate({"ours": together, "plain": apart}, rounds)
    assert abs(scores["ours"] - scores["plain"]) <= 1e-5
    print(f"eight versions: eight searches {seconds['plain']:.2f} s, one {seconds['ours']:.2f} s")
    return seconds["plain"] / seconds["ours"], {"turns_s": seconds["ours"], "turns_apart_s": seconds["plain"]}


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="24 drawn pictures and 3 rounds")
    parser.add_argument("--pictures", type=Path, help="folder of pictures to search; default: 48 of soft noise")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    drawn, small, rounds = (24, 100, 3) if args.quick else (48, 400, args.rounds)
    torch.set_num_threads(1)
    model = make_model()
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        if args.pictures is None:
            write_pictures(scratch / "pictures", range(drawn), (700, 900))
        index = quiet_index(args.pictures or scratch / "pictures", model, scratch / "store")
        found = {
            "search": compare_search(model, index, rounds),
            "windows": compare_windows(model, index, rounds),
            "index_update": compare_update(scratch, small, rounds),
            "turns": compare_turns(model, index, rounds),
        }
    details = {name: value for _, more in found.values() for name, value in more.items()}
    print_result("search", {name: ratio for name, (ratio, _) in found.items()}, details)


if __name__ == "__main__":
    main()
