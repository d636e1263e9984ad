"""Compute retrieval and detection AP of stored predictions on Brueghel."""

from __future__ import annotations

import argparse

import pyarrow as pa

from segswap.benchmarks import brueghel
from segswap.benchmarks.predictions import read_predictions, write_predictions
from segswap.files import write_json
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the paintings")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--settings", type=settings(brueghel.BrueghelSettings), required=True, help="as JSON")
    parser.add_argument("--metrics", required=True, help="numbers to write (JSON)")
    parser.add_argument("--queries", required=True, help="results of every query to write (Parquet)")
    parser.add_argument("predictions", nargs="+", help="of all chunks")
    args = parser.parse_args()
    dataset = brueghel.load(args.images, args.labels)
    results = brueghel.query_results(dataset, read_predictions(args.predictions), args.settings)
    write_predictions(pa.Table.from_pylist(results), args.queries)
    write_json(args.metrics, brueghel.summarise(results, args.settings))


if __name__ == "__main__":
    run(main)
