"""Compute the backbone's features of the images of a collection."""

from __future__ import annotations

import argparse

from segswap.device import pick_device
from segswap.discovery.collection import read_collection
from segswap.matching.features import extract_features
from segswap.models.backbone import BackboneSettings
from segswap.models.checkpoint import load_backbone
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", required=True, help="list of the images")
    parser.add_argument("--image-size", type=int, required=True, help="side in pixels that images are squashed to")
    parser.add_argument("--flip", action="store_true", help="mirror images as well")
    parser.add_argument("--weights", required=True, help="of the backbone")
    parser.add_argument("--backbone", type=settings(BackboneSettings), required=True, help="its architecture, as JSON")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--store", required=True, help="feature store to write")
    args = parser.parse_args()
    collection = read_collection(args.collection)
    backbone = load_backbone(args.weights, args.backbone, pick_device(args.device))
    names, loaders = collection.feature_names(args.flip), collection.loaders(args.flip)
    extract_features(names, loaders, backbone, (args.image_size,) * 2, args.store)


if __name__ == "__main__":
    run(main)
