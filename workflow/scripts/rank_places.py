"""Read or compute the first ranking, and choose the candidates that are re-ranked."""

from __future__ import annotations

import argparse

from segswap.benchmarks import place_data, places
from segswap.benchmarks.places_matching import first_ranking
from segswap.device import pick_device
from segswap.models.backbone import BackboneSettings
from segswap.models.checkpoint import load_backbone
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and rank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--files", type=settings(place_data.PlaceFiles), required=True, help="as JSON")
    parser.add_argument("--settings", type=settings(places.PlaceSettings), required=True, help="as JSON")
    parser.add_argument("--weights", required=True, help="of the backbone")
    parser.add_argument("--backbone", type=settings(BackboneSettings), required=True, help="its architecture, as JSON")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ranking", required=True, help="ranking and candidates to write (npz)")
    args = parser.parse_args()
    dataset = place_data.load(args.folder, args.files)
    device = pick_device(args.device)
    backbone = load_backbone(args.weights, args.backbone, device)
    ranking, origin = first_ranking(dataset, args.settings, backbone, device)
    print(f"first ranking: {origin}", flush=True)
    places.write_ranking(args.ranking, ranking, places.pick_candidates(ranking, args.settings), origin)


if __name__ == "__main__":
    run(main)
