r"""Read or compute the first ranking, and choose the candidates that are re-ranked.

Example:
    python workflow/scripts/rank_places.py --folder resources/demo/tokyo247 \
        --files '{"queries": "query_list.npy", "database": "database_list.npy", "structure": null,
            "positions": null, "query_positions": "query_utm.npy", "database_positions": "database_utm.npy",
            "first_ranking": "netvlad_scores.npy", "ground_truth": null}' \
        --settings '{"image_size": [192, 144], "metres": 25, "candidates": 20, "views_per_place": 12,
            "suppression": "after", "pooling": "gem", "protocol": "corrected"}' \
        --weights results/demo/backbone/backbone.pt \
        --backbone '{"architecture": "resnet10", "width": 32, "projection": 128}' --ranking out/ranking.npz
"""

from __future__ import annotations

from segswap.benchmarks import place_data, places
from segswap.benchmarks.places_matching import first_ranking
from segswap.device import add_device_argument, pick_device
from segswap.models.backbones import add_backbone_arguments
from segswap.models.checkpoint import load_backbone
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and rank."""
    parser = argument_parser(__doc__)
    place_data.add_data_arguments(parser)
    parser.add_argument("--settings", type=settings(places.PlaceSettings), required=True, help="as JSON")
    add_backbone_arguments(parser)
    add_device_argument(parser)
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
