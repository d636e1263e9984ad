"""Check that a place recognition data set is there and agrees with itself, or say where to get it."""

from __future__ import annotations

import argparse

from segswap.benchmarks import place_data
from segswap.files import write_json
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", required=True, choices=list(place_data.ORIGINS))
    parser.add_argument("--folder", required=True)
    parser.add_argument("--files", type=settings(place_data.PlaceFiles), required=True, help="as JSON")
    parser.add_argument("--inventory", required=True, help="counts to write (JSON)")
    args = parser.parse_args()
    place_data.require(args.benchmark, args.folder, args.files)
    dataset = place_data.load(args.folder, args.files)
    write_json(args.inventory, {"queries": len(dataset.queries), "database": len(dataset.database)})


if __name__ == "__main__":
    run(main)
