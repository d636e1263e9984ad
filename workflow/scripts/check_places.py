r"""Check that a place recognition data set is there and agrees with itself, or say where to get it.

Example:
    python workflow/scripts/check_places.py --benchmark tokyo247 --folder resources/demo/tokyo247 \
        --files '{"queries": "query_list.npy", "database": "database_list.npy", "structure": null,
            "positions": null, "query_positions": "query_utm.npy", "database_positions": "database_utm.npy",
            "first_ranking": "netvlad_scores.npy", "ground_truth": null}' \
        --inventory out/inventory.json
"""

from __future__ import annotations

from segswap.benchmarks import place_data
from segswap.files import write_json
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and check."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--benchmark",
        required=True,
        choices=list(place_data.ORIGINS),
        help="which data set, for the word on where to get it",
    )
    place_data.add_data_arguments(parser)
    parser.add_argument("--inventory", required=True, help="counts to write (JSON)")
    args = parser.parse_args()
    place_data.require(args.benchmark, args.folder, args.files)
    dataset = place_data.load(args.folder, args.files)
    for note in dataset.notes:
        print(note, flush=True)
    write_json(args.inventory, {"queries": len(dataset.queries), "database": len(dataset.database)})


if __name__ == "__main__":
    run(main)
