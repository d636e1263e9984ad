"""Compute the backbone's features of the pictures of a pair set, once."""

from __future__ import annotations

import argparse

from segswap.benchmarks.pairs import picture_loaders, picture_names
from segswap.device import pick_device
from segswap.matching.features import extract_features
from segswap.models.backbone import BackboneSettings
from segswap.models.checkpoint import load_backbone
from segswap.pairs.shards import PairSet
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True, help="manifest.json of the set")
    parser.add_argument("--weights", required=True, help="of the backbone")
    parser.add_argument("--backbone", type=settings(BackboneSettings), required=True, help="its architecture, as JSON")
    parser.add_argument("--limit", type=int, help="only the first pairs of the set")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--store", required=True, help="feature store to write (.npy, and .json beside it)")
    args = parser.parse_args()
    pairs = PairSet(args.manifest)
    backbone = load_backbone(args.weights, args.backbone, pick_device(args.device))
    names, loaders = picture_names(pairs, args.limit), picture_loaders(pairs, args.limit)
    extract_features(names, loaders, backbone, (pairs.settings["size"],) * 2, args.store)


if __name__ == "__main__":
    run(main)
