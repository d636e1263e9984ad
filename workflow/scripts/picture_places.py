r"""Draw queries of a place recognition benchmark with the best image of each ranking.

Example:
    python workflow/scripts/picture_places.py --folder resources/demo/tokyo247 \
        --files '{"queries": "query_list.npy", "database": "database_list.npy", "structure": null,
            "positions": null, "query_positions": "query_utm.npy", "database_positions": "database_utm.npy",
            "first_ranking": "netvlad_scores.npy", "ground_truth": null}' \
        --settings '{"image_size": [192, 144], "metres": 25, "candidates": 20, "views_per_place": 12,
            "suppression": "after", "pooling": "gem", "protocol": "corrected"}' \
        --ranking results/demo/features/tokyo247/ranking.npz \
        --trained results/demo/tokyo247/trained/predictions-0.parquet \
            results/demo/tokyo247/trained/predictions-1.parquet \
        --untrained results/demo/tokyo247/untrained/predictions-0.parquet \
            results/demo/tokyo247/untrained/predictions-1.parquet \
        --baseline results/demo/tokyo247/baseline/predictions-0.parquet \
            results/demo/tokyo247/baseline/predictions-1.parquet \
        --output out/tokyo247.jpg
"""

from __future__ import annotations

from segswap.benchmarks import place_data, places
from segswap.benchmarks.pictures import draw_places
from segswap.benchmarks.predictions import add_by_matcher_arguments, read_by_matcher
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    place_data.add_data_arguments(parser)
    parser.add_argument("--settings", type=settings(places.PlaceSettings), required=True, help="as JSON")
    parser.add_argument("--ranking", required=True, help="first ranking and candidates")
    add_by_matcher_arguments(parser)
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    tables = read_by_matcher(args.trained, args.untrained, args.baseline)
    dataset = place_data.load(args.folder, args.files)
    ranking, candidates, _ = places.read_ranking(args.ranking)
    draw_places(dataset, ranking, candidates, tables, args.settings, args.output, count=10)


if __name__ == "__main__":
    run(main)
