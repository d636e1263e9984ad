r"""Compute the recalls of stored predictions, before and after re-ranking.

Example:
    python workflow/scripts/metrics_places.py --folder resources/demo/tokyo247 \
        --files '{"queries": "query_list.npy", "database": "database_list.npy", "structure": null,
            "positions": null, "query_positions": "query_utm.npy", "database_positions": "database_utm.npy",
            "first_ranking": "netvlad_scores.npy", "ground_truth": null}' \
        --settings '{"image_size": [192, 144], "metres": 25, "candidates": 20, "views_per_place": 12,
            "suppression": "after", "pooling": "gem", "protocol": "corrected"}' \
        --ranking results/demo/features/tokyo247/ranking.npz --metrics out/metrics.json \
        --queries out/queries.parquet results/demo/tokyo247/trained/predictions-0.parquet \
        results/demo/tokyo247/trained/predictions-1.parquet
"""

from __future__ import annotations

from segswap.benchmarks import place_data, places
from segswap.benchmarks.predictions import read_predictions, write_predictions
from segswap.files import write_json
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    place_data.add_data_arguments(parser)
    parser.add_argument("--settings", type=settings(places.PlaceSettings), required=True, help="as JSON")
    parser.add_argument("--ranking", required=True, help="first ranking and candidates")
    parser.add_argument("--metrics", required=True, help="numbers to write (JSON)")
    parser.add_argument("--queries", required=True, help="results of every query to write (Parquet)")
    parser.add_argument("predictions", nargs="+", help="of all chunks")
    args = parser.parse_args()
    dataset = place_data.load(args.folder, args.files)
    ranking, candidates, _ = places.read_ranking(args.ranking)
    table = read_predictions(args.predictions)
    results = places.query_results(dataset, ranking, candidates, table, args.settings)
    write_predictions(results, args.queries)
    write_json(args.metrics, places.summarise(dataset, results))


if __name__ == "__main__":
    run(main)
