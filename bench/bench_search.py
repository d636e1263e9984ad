"""Pictures of one's own: searching a folder, keeping its index up to date, and trying turned versions.

    python bench/bench_search.py --quick        # 400 pictures, under 50 s on two cores
    python bench/bench_search.py                # 2,000 pictures

Three comparisons with the plain way, in turns; a model of the demo's size, untrained, at 160 x 160 pixels:
a search that matches the 50 most alike pictures, 8 at a time, against matching all, one by one; an index to
which 1 % of pictures are added against one made anew; eight versions of a picture in one match against eight matches.
The last line is JSON: ratios are the plain way's time divided by ours, medians of alternating runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from timing import alternate, print_result

from segswap.images import encode_jpeg
from segswap.matching.match import match_images, turns
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator
from segswap.search.index import open_index
from segswap.search.query import read_query
from segswap.search.search import SearchSettings, search

SIDE = 160
SHORTLIST = 50
BOX = (40.0, 30.0, 120.0, 110.0)


def make_model() -> SegSwap:
    """Return an untrained model of the demo's size."""
    torch.manual_seed(0)
    backbone = ResNet(ResNetSettings("resnet10", 32, 128))
    return SegSwap(backbone, Transformer(TransformerSettings("tiny", 128, 0.0, "matching"))).eval()


def write_pictures(folder: Path, numbers: range) -> None:
    """Write pictures of soft noise."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        small = generator(number, "bench search").integers(0, 256, (12, 16, 3), np.uint8)
        (folder / f"{number:05d}.jpg").write_bytes(encode_jpeg(cv2.resize(small, (200, 150))))


def quiet_index(folder: Path, model: SegSwap, store: Path):
    """Open an index without its words and bars."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return open_index(folder, model, SIDE, store)


def compare_search(model: SegSwap, folder: Path, store: Path, rounds: int) -> tuple[float, dict[str, float]]:
    """Return the ratio of a search with a shortlist, and details."""
    index = quiet_index(folder, model, store)
    query = read_query(folder / index.names[0], BOX, SIDE)
    ours = SearchSettings(shortlist=SHORTLIST, negatives=0, batch=8)
    plain = SearchSettings(shortlist=0, negatives=0, batch=1)

    def quietly(settings: SearchSettings) -> list[str]:
        with contextlib.redirect_stderr(io.StringIO()):
            return [hit.image for hit in search(index, model, query, settings).hits]

    seconds, _ = alternate({"ours": lambda: quietly(ours), "plain": lambda: quietly(plain)}, rounds)
    print(f"search of {len(index)}: one by one {seconds['plain']:.2f} s, shortlist {seconds['ours']:.2f} s")
    return seconds["plain"] / seconds["ours"], {"search_s": seconds["ours"], "search_all_s": seconds["plain"]}


def compare_update(model: SegSwap, folder: Path, store: Path, rounds: int) -> tuple[float, dict[str, float]]:
    """Return the ratio of bringing an index up to date, and details; the folder grows."""
    count = len(list(folder.iterdir()))
    quiet_index(folder, model, store)
    write_pictures(folder, range(count, count + count // 100))
    fresh = itertools.count()

    def update() -> int:
        copy = store.with_name(f"copy-{next(fresh)}")
        shutil.copytree(store, copy)
        return len(quiet_index(folder, model, copy))

    def anew() -> int:
        return len(quiet_index(folder, model, store.with_name(f"new-{next(fresh)}")))

    seconds, found = alternate({"ours": update, "plain": anew}, rounds)
    assert found["ours"] == found["plain"] == count + count // 100
    print(f"index of {count} with 1 % more: anew {seconds['plain']:.2f} s, updated {seconds['ours']:.2f} s")
    return seconds["plain"] / seconds["ours"], {"update_s": seconds["ours"], "anew_s": seconds["plain"]}


def compare_turns(model: SegSwap, rounds: int) -> tuple[float, dict[str, float]]:
    """Return the ratio of one match with eight versions to eight matches, and details."""
    a, b = (generator(n, "bench turns").integers(0, 256, (360, 480, 3), np.uint8) for n in range(2))
    versions, sides = turns(rotations=True, flips=True), (SIDE, SIDE)

    def together() -> float:
        return match_images(model, a, b, sides, versions).score

    def apart() -> float:
        return max(match_images(model, a, b, sides, (turn,)).score for turn in versions)

    seconds, scores = alternate({"ours": together, "plain": apart}, rounds)
    assert abs(scores["ours"] - scores["plain"]) <= 1e-4 * max(1.0, scores["plain"])
    print(f"eight versions: eight matches {seconds['plain']:.3f} s, one {seconds['ours']:.3f} s")
    return seconds["plain"] / seconds["ours"], {"turns_s": seconds["ours"], "turns_apart_s": seconds["plain"]}


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="400 pictures and 3 rounds")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    pictures, rounds = (400, 3) if args.quick else (args.pictures, args.rounds)
    torch.set_num_threads(1)
    model = make_model()
    ratios, details = {}, {"pictures": pictures, "shortlist": SHORTLIST}
    with tempfile.TemporaryDirectory() as scratch:
        folder, store = Path(scratch) / "pictures", Path(scratch) / "store"
        write_pictures(folder, range(pictures))
        for name, (ratio, more) in {
            "search_shortlist": compare_search(model, folder, store, rounds),
            "index_update": compare_update(model, folder, store, rounds),
            "turns": compare_turns(model, rounds),
        }.items():
            ratios[name] = ratio
            details |= more
    print_result("search", ratios, details)


if __name__ == "__main__":
    main()
