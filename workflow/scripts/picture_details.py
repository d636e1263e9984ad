"""Draw one query of each category of Brueghel with the best results of each matcher."""

from __future__ import annotations

import argparse

from segswap.benchmarks import brueghel
from segswap.benchmarks.pictures import draw_brueghel
from segswap.benchmarks.predictions import read_by_matcher
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the paintings")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--settings", type=settings(brueghel.BrueghelSettings), required=True, help="as JSON")
    parser.add_argument("--trained", nargs="+", required=True, help="predictions of the trained model")
    parser.add_argument("--untrained", nargs="+", required=True)
    parser.add_argument("--baseline", nargs="+", required=True)
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    tables = read_by_matcher(args.trained, args.untrained, args.baseline)
    draw_brueghel(brueghel.load(args.images, args.labels), tables, args.settings, args.output)


if __name__ == "__main__":
    run(main)
