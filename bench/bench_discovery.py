"""The correspondence graph against a loop over pairs of pairs, its eigenvector, and their growth with the collection.

    python bench/bench_discovery.py --quick     # 20 images at two sigmas, under 50 s on two cores
    python bench/bench_discovery.py             # also 10 to 100 images, and 100 at every published sigma

The loop is the form in which the graph is defined: each pair of image pairs is visited, each node of one compared with
each node of the other. Both take turns and give the same matrix. The collection is made up: images of one object, at
another place and size in each, and maps that follow it with noise. The last line is JSON: ratios are the loop's time
divided by ours, medians of alternating runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from itertools import combinations, product

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh
from timing import alternate, largest_memory, print_result

from segswap.discovery.graph import build_graph
from segswap.discovery.nodes import Nodes, build_nodes, cell_hit, top_k_neighbours
from segswap.discovery.spectral import principal_eigenvector
from segswap.randomness import generator

GRID = (30, 30)
SIGMAS = (0.8, 1.2, 5.0)
"""Those of the published results."""


def collection(n_images: int, top_k: int = 5) -> tuple[Nodes, np.ndarray, np.ndarray, np.ndarray]:
    """Return nodes, pairs and maps of a made-up collection; all pairs are kept.

    The object is a disc of some 12 cells' width; a map takes each of its cells to the place in the other image, half
    a cell off or so, and any other cell anywhere.
    """
    rng = generator(1, "bench discovery", n_images)
    pairs = np.array(list(combinations(range(n_images), 2)))
    radius = rng.uniform(5.5, 8.5, n_images)
    centre = rng.uniform(radius[:, None], np.array(GRID) - radius[:, None])
    y, x = np.indices(GRID) + 0.5
    maps = np.empty((2, len(pairs), 3, *GRID), np.float32)
    # Some pairs at a time: what is measured later is the graph's memory, not this one.
    for start in range(0, len(pairs), 256):
        some = slice(start, start + 256)
        for side, (here, there) in enumerate((pairs[some].T, pairs[some, ::-1].T)):
            offset = np.stack([x, y]) - centre[here][:, :, None, None]
            ratio = (radius[there] / radius[here])[:, None, None, None]
            place = centre[there][:, :, None, None] + ratio * offset + rng.normal(0, 0.5, offset.shape)
            inside = np.hypot(*np.moveaxis(offset, 1, 0)) < radius[here][:, None, None]
            place = np.where(inside[:, None], place, rng.uniform(0, GRID[0], place.shape)) / GRID[0]
            mask = np.where(inside, rng.uniform(0.84, 1, inside.shape), rng.uniform(0, 0.5, inside.shape))
            maps[side, some] = np.concatenate([place.clip(0, 1), mask[:, None]], axis=1)
    neighbours = top_k_neighbours(pairs, rng.uniform(1, 2, pairs.shape), n_images, top_k)
    return build_nodes(pairs, *maps, neighbours=neighbours), pairs, *maps


def loop_graph(
    nodes: Nodes, pairs: np.ndarray, maps_1: np.ndarray, maps_2: np.ndarray, sigma: float, minimum: float = 0.01
) -> sparse.csr_matrix:
    """Return the graph by visiting each pair of image pairs."""
    maps = {}
    for (i, j), one, two in zip(pairs.tolist(), maps_1, maps_2, strict=True):
        maps[i, j], maps[j, i] = one, two
    rows, columns, weights = [], [], []
    with_nodes = [pair for pair in range(len(pairs)) if nodes.starts[pair] < nodes.starts[pair + 1]]

    def decay(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.exp(-np.linalg.norm(one[:, None] - other[None], axis=2) / sigma)

    for first, second in combinations(with_nodes, 2):
        images_1, images_2 = pairs[first].tolist(), pairs[second].tolist()
        shared = set(images_1) & set(images_2)
        if len(shared) != 1:
            continue
        (i,) = shared
        place_1, place_2 = images_1.index(i), images_2.index(i)
        j, n = images_1[1 - place_1], images_2[1 - place_2]
        if (j, n) not in maps:
            continue
        here, there = nodes.of_pair(first), nodes.of_pair(second)
        cells_1, cells_2 = nodes.cells[here].reshape(-1, 2, 2), nodes.cells[there].reshape(-1, 2, 2)
        end_1, end_2 = cells_1[:, 1 - place_1], cells_2[:, 1 - place_2]
        carried_1 = cell_hit(maps[j, n][:2, end_1[:, 1], end_1[:, 0]].T, GRID)
        carried_2 = cell_hit(maps[n, j][:2, end_2[:, 1], end_2[:, 0]].T, GRID)
        weight = nodes.confidence[here, None] * nodes.confidence[there]
        weight = weight * decay(cells_1[:, place_1], cells_2[:, place_2])
        weight = weight * (decay(carried_1, end_2) + decay(end_1, carried_2)) / 2
        row, column = np.nonzero(weight > minimum)
        rows += [here.start + row, there.start + column]
        columns += [there.start + column, here.start + row]
        weights += [weight[row, column]] * 2
    where = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(weights).astype(np.float32), where), shape=(len(nodes), len(nodes)))


def loop_eigenvector(graph: sparse.csr_matrix) -> np.ndarray:
    """Return the principal eigenvector by Lanczos on the whole graph."""
    vector = eigsh(graph, k=1, v0=np.ones(graph.shape[0], np.float32))[1][:, 0]
    return vector * np.sign(vector.sum())


def compare(n_images: int, sigma: float, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Compare graph and eigenvector of both ways; return the ratios by what was timed, and details."""
    made = collection(n_images)
    graph_seconds, graphs = alternate(
        {"loop": lambda: loop_graph(*made, sigma), "ours": lambda: build_graph(*made, sigma)}, rounds
    )
    difference = abs(graphs["ours"] - graphs["loop"])
    # Weights at the minimum may fall to either side of it by rounding.
    assert (difference > 1e-6).nnz <= 4, f"the graphs differ in {(difference > 1e-6).nnz} entries"
    graph = graphs["ours"]
    vector_seconds, vectors = alternate(
        {"loop": lambda: loop_eigenvector(graph), "ours": lambda: principal_eigenvector(graph)}, 3 * rounds
    )
    assert np.abs(vectors["ours"] - vectors["loop"]).max() < 1e-5, "the eigenvectors differ"
    ratios = {}
    for what, seconds in (("graph", graph_seconds), ("eigenvector", vector_seconds)):
        ratios[what] = seconds["loop"] / seconds["ours"]
        print(
            f"{n_images} images, sigma {sigma}, {what}: loop {seconds['loop']:.2f} s, ours {seconds['ours']:.2f} s, "
            f"ratio {ratios[what]:.2f}",
            flush=True,
        )
    print(f"{len(made[0]):,} nodes, {graph.nnz:,} entries", flush=True)
    details = {"nodes": len(made[0]), "entries": graph.nnz, "graph_s": graph_seconds["ours"]}
    return ratios, details | {"eigenvector_s": vector_seconds["ours"]}


def measure(n_images: int, sigma: float) -> dict[str, float]:
    """Build one graph and its eigenvector; return seconds, sizes and this process's largest memory, in GB."""
    made = collection(n_images)
    before = largest_memory()
    started = time.perf_counter()
    graph = build_graph(*made, sigma)
    built = time.perf_counter()
    principal_eigenvector(graph)
    return {
        "images": n_images,
        "sigma": sigma,
        "nodes": len(made[0]),
        "entries": graph.nnz,
        "graph_s": round(built - started, 2),
        "eigenvector_s": round(time.perf_counter() - built, 2),
        "input_gb": round(before, 2),
        "peak_gb": round(largest_memory(), 2),
    }


def grow() -> list[dict[str, float]]:
    """Measure collections of 10 to 100 images, each in a process of its own; print a table."""
    rows = []
    for sigma, n_images in product(SIGMAS, (10, 20, 50, 100)):
        job = [sys.executable, __file__, "--one", str(n_images), str(sigma)]
        done = subprocess.run(job, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout))
        row = rows[-1]
        each = 1e9 * row["graph_s"] / row["entries"], 1e9 * (row["peak_gb"] - row["input_gb"]) / row["entries"]
        print(
            f"{n_images:4d} images, sigma {sigma}: {row['nodes']:7,} nodes, {row['entries']:12,} entries, graph "
            f"{row['graph_s']:6.2f} s ({each[0]:.0f} ns an entry), eigenvector {row['eigenvector_s']:6.2f} s, at most "
            f"{row['peak_gb']:.2f} GB ({each[1]:.0f} bytes an entry above the input)",
            flush=True,
        )
    return rows


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the comparisons on 20 images only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("IMAGES", "SIGMA"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(int(args.one[0]), float(args.one[1]))))
        return
    ratios, details = {}, {}
    for sigma, suffix in ((1.2, ""), (5.0, "_sigma5")):
        found, details[f"sigma {sigma}"] = compare(20, sigma, args.rounds)
        ratios |= {f"{what}{suffix}": ratio for what, ratio in found.items()}
    if not args.quick:
        details["growth"] = grow()
    print_result("discovery", ratios, details)


if __name__ == "__main__":
    main()
