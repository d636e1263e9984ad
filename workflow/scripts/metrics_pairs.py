"""Compute the numbers of stored predictions on held-out pairs."""

from __future__ import annotations

import argparse

from segswap.benchmarks.pairs import metrics
from segswap.benchmarks.predictions import read_predictions
from segswap.files import write_json
from segswap.pairs.shards import PairSet
from segswap.program import run


def main() -> None:
    """Parse the arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifests", nargs=2, required=True, help="one- and two-object held-out sets")
    parser.add_argument("--metrics", required=True, help="numbers to write (JSON)")
    parser.add_argument("predictions", nargs="+")
    args = parser.parse_args()
    sets = [PairSet(manifest) for manifest in args.manifests]
    write_json(args.metrics, metrics(sets, read_predictions(args.predictions)))


if __name__ == "__main__":
    run(main)
