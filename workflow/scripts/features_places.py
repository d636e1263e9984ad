"""Compute the backbone's features of the queries, and of every candidate once."""

from __future__ import annotations

import argparse

from segswap.benchmarks import place_data, places
from segswap.device import pick_device
from segswap.matching.features import extract_features
from segswap.models.backbone import BackboneSettings
from segswap.models.checkpoint import load_backbone
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--files", type=settings(place_data.PlaceFiles), required=True, help="as JSON")
    parser.add_argument("--settings", type=settings(places.PlaceSettings), required=True, help="as JSON")
    parser.add_argument("--ranking", required=True, help="first ranking and candidates")
    parser.add_argument("--weights", required=True, help="of the backbone")
    parser.add_argument("--backbone", type=settings(BackboneSettings), required=True, help="its architecture, as JSON")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--queries", required=True, help="feature store of the queries to write")
    parser.add_argument("--candidates", required=True, help="feature store of the candidates to write")
    args = parser.parse_args()
    dataset = place_data.load(args.folder, args.files)
    _, candidates, _ = places.read_ranking(args.ranking)
    backbone = load_backbone(args.weights, args.backbone, pick_device(args.device))
    for names, store in (
        (dataset.queries, args.queries),
        (places.candidate_names(dataset, candidates), args.candidates),
    ):
        loaders = place_data.image_loaders(dataset.folder, names)
        extract_features(names, loaders, backbone, tuple(args.settings.image_size), store)


if __name__ == "__main__":
    run(main)
