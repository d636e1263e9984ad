"""Compute the backbone's features of the paintings, and of the queries cut out of them."""

from __future__ import annotations

import argparse

from segswap.benchmarks import brueghel
from segswap.device import pick_device
from segswap.matching.features import extract_features
from segswap.models.backbone import BackboneSettings
from segswap.models.checkpoint import load_backbone
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the paintings")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--settings", type=settings(brueghel.BrueghelSettings), required=True, help="as JSON")
    parser.add_argument("--weights", required=True, help="of the backbone")
    parser.add_argument("--backbone", type=settings(BackboneSettings), required=True, help="its architecture, as JSON")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--database", required=True, help="feature store of the paintings to write")
    parser.add_argument("--queries", required=True, help="feature store of the queries to write")
    args = parser.parse_args()
    dataset = brueghel.load(args.images, args.labels)
    backbone = load_backbone(args.weights, args.backbone, pick_device(args.device))
    size = (args.settings.image_size,) * 2
    loaders = brueghel.query_loaders(dataset, args.settings)
    extract_features(dataset.images, brueghel.image_loaders(dataset), backbone, size, args.database)
    extract_features(brueghel.query_names(dataset), loaders, backbone, size, args.queries)


if __name__ == "__main__":
    run(main)
