"""Compute the recalls of stored predictions, before and after re-ranking."""

from __future__ import annotations

import argparse

from segswap.benchmarks import place_data, places
from segswap.benchmarks.predictions import read_predictions, write_predictions
from segswap.files import write_json
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--files", type=settings(place_data.PlaceFiles), required=True, help="as JSON")
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
