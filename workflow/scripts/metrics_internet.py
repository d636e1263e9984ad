"""Compute precision and Jaccard index of stored segmentations."""

from __future__ import annotations

import argparse

from segswap.benchmarks.internet import metrics
from segswap.benchmarks.predictions import read_predictions
from segswap.files import write_json
from segswap.program import run


def main() -> None:
    """Parse the arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", required=True, help="numbers to write (JSON)")
    parser.add_argument("segmentations", nargs="+", help="of all classes")
    args = parser.parse_args()
    write_json(args.metrics, metrics(read_predictions(args.segmentations)))


if __name__ == "__main__":
    run(main)
