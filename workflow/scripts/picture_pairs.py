"""Draw held-out pairs with what each matcher predicts."""

from __future__ import annotations

import argparse

from segswap.benchmarks.pictures import draw_pairs
from segswap.benchmarks.predictions import read_by_matcher
from segswap.pairs.shards import PairSet
from segswap.program import run


def main() -> None:
    """Parse the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifests", nargs=2, required=True, help="one- and two-object held-out sets")
    parser.add_argument("--trained", nargs="+", required=True, help="predictions of the trained model")
    parser.add_argument("--untrained", nargs="+", required=True)
    parser.add_argument("--baseline", nargs="+", required=True)
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    tables = read_by_matcher(args.trained, args.untrained, args.baseline)
    draw_pairs([PairSet(manifest) for manifest in args.manifests], tables, args.output, count=12)


if __name__ == "__main__":
    run(main)
