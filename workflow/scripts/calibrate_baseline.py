"""Choose the threshold of the cosine baseline on training pairs."""

from __future__ import annotations

import argparse

from segswap.benchmarks.pairs_matching import HeldOutPairs, calibrate_threshold
from segswap.device import pick_device
from segswap.files import write_json
from segswap.models.checkpoint import load_checkpoint
from segswap.program import run


def main() -> None:
    """Parse the arguments and calibrate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifests", nargs=2, required=True, help="one- and two-object training sets")
    parser.add_argument("--features", nargs=2, required=True, help="their feature stores")
    parser.add_argument("--pairs", type=int, required=True, help="pairs of each set that are used")
    parser.add_argument("--checkpoint", required=True, help="holds the backbone")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", required=True, help="threshold to write (JSON)")
    args = parser.parse_args()
    model, _ = load_checkpoint(args.checkpoint)
    train = HeldOutPairs.load(args.manifests, args.features, model.backbone, args.pairs)
    write_json(args.output, calibrate_threshold(train, pick_device(args.device)))


if __name__ == "__main__":
    run(main)
