"""Draw the best cluster of each labelled detail."""

from __future__ import annotations

import argparse

from segswap.benchmarks import brueghel, discovery
from segswap.benchmarks.predictions import read_predictions
from segswap.program import run


def main() -> None:
    """Parse the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the paintings")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--threshold", type=float, required=True, help="of the IoU")
    parser.add_argument("--regions", required=True, help="regions of the clusters")
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    dataset = brueghel.load(args.images, args.labels)
    discovery.draw_discovery(dataset, read_predictions([args.regions]), args.threshold, args.output)


if __name__ == "__main__":
    run(main)
