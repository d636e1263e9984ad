"""Re-ranking: the batched score against a loop over cells, and the cost of whole re-rankings, in one process.

    python bench/bench_rerank.py --quick        # the score of one query against 100 candidates, under 50 s on two cores
    python bench/bench_rerank.py                # the same; --candidates and --rounds say how much
    python bench/bench_rerank.py --whole        # also whole re-rankings, and Brueghel projected

The loop is the form in which the score is defined: for each cell of the source the cosine with the cell that it hits,
and of the cells that hit one target cell the largest contribution. Both take turns and give the same numbers. The
last line is JSON: ratios are the loop's time divided by ours, medians of alternating runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from timing import alternate, print_result
from torch.nn import functional as F

from segswap.images import resize
from segswap.matching.features import FeatureStore, extract_features, images_to_tensor
from segswap.matching.predict import predict_pairs
from segswap.matching.score import hit_cells, joint_mask, score_pairs, self_match_mask
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator

CELLS = (30, 40)
CHANNELS = 1024


def loop_score(
    maps_x: torch.Tensor, maps_y: torch.Tensor, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor
) -> float:
    """Return the score of one pair, cell by cell."""
    shape = maps_y.shape[-2:]
    joint = joint_mask(maps_x, maps_y, weight)[0, 0]
    cells = hit_cells(maps_x[:, :2], shape, "corrected")[0]
    best: dict[int, float] = {}
    for row in range(joint.shape[0]):
        for column in range(joint.shape[1]):
            cell = int(cells[row, column])
            cosine = torch.dot(x[0, :, row, column], y[0, :, cell // shape[1], cell % shape[1]])
            best[cell] = max(best.get(cell, 0.0), float(joint[row, column] * cosine))
    return sum(best.values())


def compare_scores(candidates: int, rounds: int) -> tuple[float, dict[str, float]]:
    """Return how many times faster the batched score of a query against its candidates is, and details."""
    torch.manual_seed(0)
    plain_x, plain_y = (F.normalize(torch.randn(n, CHANNELS, *CELLS), dim=1) for n in (1, candidates))
    # Channels last, as our feature store gives them; the loop has them as a network with channels first does.
    x, y = (features.contiguous(memory_format=torch.channels_last) for features in (plain_x, plain_y))
    maps_x, maps_y = (torch.rand(candidates, 3, *CELLS) for _ in range(2))
    weight = torch.rand(1, 1, *CELLS)

    def loop() -> np.ndarray:
        pairs = zip(maps_x.split(1), maps_y.split(1), plain_y.split(1), strict=True)
        return np.array([loop_score(here, there, plain_x, features, weight) for here, there, features in pairs])

    def batched() -> np.ndarray:
        x_each, weight_each = (each.expand(candidates, -1, -1, -1) for each in (x, weight))
        return score_pairs(maps_x, maps_y, x_each, y, weight_each).numpy()

    seconds, scores = alternate({"batched": batched, "loop": loop}, rounds)
    difference = np.abs(scores["loop"] - scores["batched"]).max() / scores["loop"].max()
    assert difference < 1e-5, f"results differ by {difference}"
    ratio = seconds["loop"] / seconds["batched"]
    print(
        f"score of a query against {candidates} candidates: loop {seconds['loop']:.2f} s, batched "
        f"{seconds['batched']:.3f} s, ratio {ratio:.0f}; relative difference {difference:.0e}",
        flush=True,
    )
    details = {"candidates": candidates, "score_s": seconds["batched"], "loop_s": seconds["loop"]}
    return ratio, details | {"relative_difference": float(difference)}


def compare_sharing(
    queries: int, candidates: int, trunk: ResNet, matcher: Transformer, folder: Path
) -> dict[str, dict[str, float]]:
    """Return the seconds of a re-ranking where queries share their candidates, and where each has its own."""
    rng = generator(1, "bench pictures")
    picture = rng.integers(0, 256, (480, 640, 3), np.uint8)
    size, cpu = (640, 480), torch.device("cpu")
    names = [f"q{n}" for n in range(queries)]
    extract_features(
        names, [lambda n=n: np.roll(picture, 7 * n) for n in range(queries)], trunk, size, folder / "q.npy"
    )
    seconds = {}
    for what, unique in (("shared", candidates), ("of its own", queries * candidates)):
        started = time.perf_counter()
        listed = [f"{what} {n}" for n in range(unique)]
        loaders = [lambda n=n: np.roll(picture, 11 * n, axis=1) for n in range(unique)]
        store = folder / f"{what}.npy"
        extract_features(listed, loaders, trunk, size, store)
        encoded = time.perf_counter()
        query_store, database = FeatureStore(folder / "q.npy", trunk), FeatureStore(store, trunk)
        pairs = np.array([[q, (q * candidates + c) % unique] for q in range(queries) for c in range(candidates)])
        for batch in predict_pairs(matcher, query_store, database, pairs, cpu):
            ones = torch.ones_like(batch.maps_x[:, 2:])
            score_pairs(batch.maps_x, batch.maps_y, batch.features_x, batch.features_y, ones)
        took = seconds[what] = {"encoding": encoded - started, "matching": time.perf_counter() - encoded}
        print(
            f"{queries} queries x {candidates} candidates, {what} ({unique} images): encoding "
            f"{took['encoding']:.1f} s, matching {took['matching']:.1f} s",
            flush=True,
        )
    return seconds


def project_brueghel(trunk: ResNet, matcher: Transformer, pairs: int) -> dict[str, float]:
    """Return how long Brueghel's 273 x 1,587 pairs take at 40 x 40 cells, from some measured ones."""
    cells = (40, 40)
    x, y = (F.normalize(torch.randn(pairs, CHANNELS, *cells), dim=1) for _ in range(2))
    with torch.inference_mode():
        started = time.perf_counter()
        maps_x, maps_y = matcher(x, y)
        score_pairs(maps_x, maps_y, x, y, self_match_mask(matcher(x, x), torch.ones(pairs, 1, *cells)))
        rate = pairs / (time.perf_counter() - started) * 2
        images = images_to_tensor([resize(np.zeros((640, 640, 3), np.uint8), (640, 640))])
        started = time.perf_counter()
        trunk(images)
        image = time.perf_counter() - started
    hours = {"pairs_h": 273 * 1587 / rate / 3600, "images_h": 1860 * image / 3600}
    print(
        f"Brueghel: {rate:.2f} pairs/s, {image:.2f} s an image: 273 x 1,587 pairs take {hours['pairs_h']:.1f} h, "
        f"1,860 images {hours['images_h']:.2f} h"
    )
    return {"pairs_per_second": rate, "image_s": image} | hours


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the score alone: at most 100 candidates, 3 rounds")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--whole", action="store_true", help="whole re-rankings as well, with a ResNet-50 trunk")
    args = parser.parse_args()
    if args.quick:
        args.candidates, args.rounds, args.whole = min(args.candidates, 100), min(args.rounds, 3), False
    torch.set_num_threads(args.threads)
    ratio, score = compare_scores(args.candidates, args.rounds)
    details = {"threads": args.threads, "score": score}
    if args.whole:
        torch.manual_seed(0)
        trunk = ResNet(ResNetSettings("resnet50")).freeze()
        matcher = Transformer(TransformerSettings("small", CHANNELS)).eval()
        with tempfile.TemporaryDirectory() as temporary:
            details["whole_s"] = compare_sharing(8, 6, trunk, matcher, Path(temporary))
        details["brueghel"] = project_brueghel(trunk, matcher, 4)
    print_result("rerank", {"score": ratio}, details)


if __name__ == "__main__":
    main()
