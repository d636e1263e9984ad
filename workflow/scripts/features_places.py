r"""Compute the backbone's features of the queries, and of every candidate once.

Example:
    python workflow/scripts/features_places.py --folder resources/demo/tokyo247 \
        --files '{"queries": "query_list.npy", "database": "database_list.npy", "structure": null,
            "positions": null, "query_positions": "query_utm.npy", "database_positions": "database_utm.npy",
            "first_ranking": "netvlad_scores.npy", "ground_truth": null}' \
        --settings '{"image_size": [192, 144], "metres": 25, "candidates": 20, "views_per_place": 12,
            "suppression": "after", "pooling": "gem", "protocol": "corrected"}' \
        --ranking results/demo/features/tokyo247/ranking.npz --weights results/demo/backbone/backbone.pt \
        --backbone '{"architecture": "resnet10", "width": 32, "projection": 128}' --queries out/queries.npy \
        --candidates out/candidates.npy
"""

from __future__ import annotations

from segswap.benchmarks import place_data, places
from segswap.device import add_device_argument, pick_device
from segswap.matching.features import extract_features
from segswap.models.backbones import add_backbone_arguments
from segswap.models.checkpoint import load_backbone
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    place_data.add_data_arguments(parser)
    parser.add_argument("--settings", type=settings(places.PlaceSettings), required=True, help="as JSON")
    parser.add_argument("--ranking", required=True, help="first ranking and candidates")
    add_backbone_arguments(parser)
    add_device_argument(parser)
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
