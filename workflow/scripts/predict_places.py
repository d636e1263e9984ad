r"""Score the candidates of a part of the queries.

Example:
    python workflow/scripts/predict_places.py --folder resources/demo/tokyo247 \
        --files '{"queries": "query_list.npy", "database": "database_list.npy", "structure": null,
            "positions": null, "query_positions": "query_utm.npy", "database_positions": "database_utm.npy",
            "first_ranking": "netvlad_scores.npy", "ground_truth": null}' \
        --settings '{"image_size": [192, 144], "metres": 25, "candidates": 20, "views_per_place": 12,
            "suppression": "after", "pooling": "gem", "protocol": "corrected"}' \
        --ranking results/demo/features/tokyo247/ranking.npz --queries results/demo/features/tokyo247/queries.npy \
        --candidates results/demo/features/tokyo247/candidates.npy --chunk 0 --chunks 2 \
        --checkpoint results/demo/checkpoints/stage2.pt --predictions out/predictions-0.parquet
"""

from __future__ import annotations

from segswap.benchmarks import place_data, places
from segswap.benchmarks.places_matching import predict
from segswap.benchmarks.predictions import add_chunk_arguments, chunk_rows, write_predictions
from segswap.device import add_device_argument, pick_device
from segswap.matching.features import FeatureStore
from segswap.matching.predict import add_matcher_arguments, load_matcher
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and predict."""
    parser = argument_parser(__doc__)
    place_data.add_data_arguments(parser)
    parser.add_argument("--settings", type=settings(places.PlaceSettings), required=True, help="as JSON")
    parser.add_argument("--ranking", required=True, help="first ranking and candidates")
    parser.add_argument("--queries", required=True, help="feature store of the queries")
    parser.add_argument("--candidates", required=True, help="feature store of the candidates")
    add_chunk_arguments(parser, "queries")
    add_matcher_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--predictions", required=True, help="predictions to write (Parquet)")
    args = parser.parse_args()
    dataset = place_data.load(args.folder, args.files)
    _, candidates, _ = places.read_ranking(args.ranking)
    backbone, matcher = load_matcher(args.checkpoint, args.baseline)
    queries = FeatureStore(args.queries, backbone, dataset.queries)
    database = FeatureStore(args.candidates, backbone, places.candidate_names(dataset, candidates))
    rows = chunk_rows(len(dataset.queries), args.chunks, args.chunk)
    device = pick_device(args.device)
    table = predict(dataset, candidates, rows, queries, database, matcher, args.settings, device)
    write_predictions(table, args.predictions)


if __name__ == "__main__":
    run(main)
