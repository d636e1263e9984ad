"""Compare the clusters of a collection with the labelled details."""

from __future__ import annotations

import argparse

from segswap.benchmarks import brueghel, discovery
from segswap.benchmarks.predictions import read_predictions
from segswap.files import write_json
from segswap.program import run


def main() -> None:
    """Parse the arguments and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the paintings")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--threshold", type=float, required=True, help="of the IoU")
    parser.add_argument("--regions", required=True, help="regions of the clusters")
    parser.add_argument("--metrics", required=True, help="numbers to write (JSON)")
    args = parser.parse_args()
    dataset = brueghel.load(args.images, args.labels)
    write_json(args.metrics, discovery.metrics(dataset, read_predictions([args.regions]), args.threshold))


if __name__ == "__main__":
    run(main)
