"""Find what the images of a folder share: details that several of them repeat, as clusters of regions.

Pairs of images with alike parts are matched; correspondences that agree over three images are connected, and the
leading eigenvectors of that graph are the clusters. In the output folder: ``index.html`` (a strip of regions for each
cluster; a click leads to the pairs and their correspondences), ``clusters.json``, ``regions.parquet`` and
``correspondences.parquet``. What is slow is kept there, too (features and predictions of pairs): with another --sigma
or --clusters only the graph and what follows is made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from segswap.benchmarks.predictions import write_predictions
from segswap.commands.arguments import add_checkpoint_argument, add_side_argument, check_side
from segswap.device import add_device_argument, pick_device
from segswap.discovery.candidates import all_pairs, candidate_pairs, window_descriptors
from segswap.discovery.clusters import cluster_correspondences, cluster_regions, leading_clusters
from segswap.discovery.collection import Collection, open_folder
from segswap.discovery.graph import GraphSettings, collection_graph
from segswap.discovery.matching import match_collection
from segswap.discovery.predictions import MatchSettings, PairPredictions, read_pair_predictions
from segswap.errors import InputError
from segswap.files import content_key, make_folder, read_json, sha256, write_json
from segswap.matching.features import FeatureStore, extract_features
from segswap.matching.match import training_side
from segswap.models.checkpoint import load_checkpoint
from segswap.models.segswap import SegSwap
from segswap.progress import progress
from segswap.report.clusters import write_clusters_page

EXAMPLES = """
segswap discover pictures -o out
segswap discover pictures -o out --side 320 --candidates 12
segswap discover pictures -o out --checkpoint results/demo/checkpoints/stage2.pt --side 240 --sigma 3 --clusters 5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", help="of images; subfolders are not looked into")
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder to write")
    add_checkpoint_argument(parser)
    add_side_argument(parser)
    parser.add_argument(
        "--candidates",
        type=int,
        default=30,
        help="images that each is matched with, the most alike ones; 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--windows",
        type=int,
        default=8,
        help="windows along a side by which images are compared (default: %(default)s)",
    )
    parser.add_argument("--flip", action="store_true", help="try each pair also with the second image mirrored")
    parser.add_argument(
        "--min-share",
        type=float,
        default=0.005,
        help="pairs that share less of their cells are dropped (default: %(default)s)",
    )
    parser.add_argument(
        "--top-k", type=int, default=5, help="neighbours of an image in the graph (default: %(default)s)"
    )
    parser.add_argument(
        "--mask-threshold", type=float, default=0.5, help="cells with a mask above it take part (default: %(default)s)"
    )
    parser.add_argument(
        "--sigma", type=float, default=2.0, help="how far off agreeing cells may be, in cells (default: %(default)s)"
    )
    parser.add_argument("--clusters", type=int, default=20, help="largest number of clusters (default: %(default)s)")
    parser.add_argument(
        "--node-share",
        type=float,
        default=0.2,
        help="share of a cluster's largest entry that belongs to it (default: %(default)s)",
    )
    parser.add_argument(
        "--region-share",
        type=float,
        default=0.1,
        help="share of an image's largest cell that belongs to a region (default: %(default)s)",
    )
    add_device_argument(parser)


def _check(args: argparse.Namespace) -> None:
    """Raise ``InputError`` for a value that cannot be meant."""
    check_side(args.side)
    wrong = {
        "--candidates": args.candidates < 0,
        "--windows": args.windows < 1,
        "--min-share": not 0 <= args.min_share < 1,
        "--top-k": args.top_k < 1,
        "--mask-threshold": not 0 <= args.mask_threshold < 1,
        "--sigma": not args.sigma > 0,
        "--clusters": args.clusters < 1,
        "--node-share": not 0 <= args.node_share < 1,
        "--region-share": not 0 <= args.region_share <= 1,
    }
    for flag, is_wrong in wrong.items():
        if is_wrong:
            value = getattr(args, flag[2:].replace("-", "_"))
            raise InputError(f"{flag} {value}: expected {_EXPECTED.get(flag, 'a share, from 0 to below 1')}")


_EXPECTED = {
    "--candidates": "0 (all) or more",
    "--windows": "1 or more",
    "--top-k": "1 or more",
    "--sigma": "a number above 0",
    "--clusters": "1 or more",
}


def predictions_of(
    collection: Collection, model: SegSwap, device: torch.device, args: argparse.Namespace
) -> PairPredictions:
    """Return the kept predictions of a collection's pairs; those of an earlier run with the same settings are read."""
    settings = MatchSettings(args.flip, args.min_share, "corrected")
    side = args.side or training_side(model.about)
    kept, note = args.output / "predictions.npz", args.output / "predictions.json"
    key = content_key(
        {
            "images": [(name, sha256(collection.folder / name)) for name in progress(collection.images, "hashes")],
            # Of the weights, not of a file: the model may come from a folder or from the Hugging Face hub.
            "model": model.key,
            "settings": [side, args.candidates, args.windows, vars(settings)],
        }
    )
    if kept.is_file() and note.is_file() and read_json(note)["key"] == key:
        print(f"{kept}: predictions of an earlier run are used", flush=True)
        return read_pair_predictions([kept])
    store_path = args.output / "features.npy"
    names = collection.feature_names(args.flip)
    extract_features(names, collection.loaders(args.flip), model.backbone, (side, side), store_path)
    store = FeatureStore(store_path, model.backbone, names)
    count = len(collection.images)
    if args.candidates:
        pairs = candidate_pairs(window_descriptors(store, count, args.windows).to(device), args.candidates)
    else:
        pairs = all_pairs(count)
    predictions = match_collection(store, count, pairs, model.matcher, settings, device)
    predictions.write(kept)
    write_json(note, {"key": key, "candidates": len(pairs), "kept": len(predictions.pairs)})
    return predictions


def execute(args: argparse.Namespace) -> None:
    """Find the clusters, write them, and say how many there are."""
    _check(args)
    device = pick_device(args.device)
    model, _ = load_checkpoint(args.checkpoint, device)
    collection = open_folder(args.folder)
    make_folder(args.output, "--output")
    predictions = predictions_of(collection, model, device, args)
    settings = GraphSettings(
        args.top_k, args.mask_threshold, args.sigma, two_cycles=True, mask_weighting=False, protocol="corrected"
    )
    graph = collection_graph(predictions, len(collection.images), settings)
    found = leading_clusters(graph.weights, args.clusters, args.node_share)
    regions = cluster_regions(graph, found, collection, args.region_share)
    correspondences = cluster_correspondences(graph, found, collection)
    collection.write(args.output / "images.json")
    write_predictions(regions, args.output / "regions.parquet")
    write_predictions(correspondences, args.output / "correspondences.parquet")
    write_json(args.output / "clusters.json", clusters_json(collection, regions.to_pylist()))
    facts = {
        "model": str(args.checkpoint),
        "image pairs": f"{len(predictions.pairs)} share something",
        "sigma": f"{args.sigma:g} cells",
    }
    write_clusters_page(collection, regions, correspondences, args.output / "index.html", facts)
    count = len(np.unique(regions["cluster"].to_numpy()))
    print(f"{count} clusters, {len(regions)} regions: {args.output / 'index.html'}", flush=True)


def clusters_json(collection: Collection, rows: list[dict]) -> dict:
    """Return the clusters as plain values: regions (image, box, weight) by cluster, strongest first."""
    clusters: dict[int, dict] = {}
    for row in rows:
        own = clusters.setdefault(
            row["cluster"], {"cluster": row["cluster"], "strength": row["strength"], "regions": []}
        )
        own["regions"].append({name: row[name] for name in ("image", "box", "weight", "cells")})
    return {"folder": str(collection.folder), "left_out": collection.left_out, "clusters": list(clusters.values())}
