"""Match held-out pairs, related and unrelated ones."""

from __future__ import annotations

import argparse

from segswap.benchmarks.pairs_matching import HeldOutPairs, predict
from segswap.benchmarks.predictions import write_predictions
from segswap.device import pick_device
from segswap.matching.predict import load_matcher
from segswap.matching.score import PROTOCOLS
from segswap.program import run


def main() -> None:
    """Parse the arguments and predict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifests", nargs=2, required=True, help="one- and two-object held-out sets")
    parser.add_argument("--features", nargs=2, required=True, help="their feature stores")
    parser.add_argument("--limit", type=int, required=True, help="pairs of each set that are judged")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--baseline", help="calibrated threshold: match by cosine instead of the transformer")
    parser.add_argument("--protocol", required=True, choices=PROTOCOLS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--predictions", required=True, help="predictions to write (Parquet)")
    args = parser.parse_args()
    device = pick_device(args.device)
    backbone, matcher = load_matcher(args.checkpoint, args.baseline)
    heldout = HeldOutPairs.load(args.manifests, args.features, backbone, args.limit)
    write_predictions(predict(heldout, matcher.to(device), device, args.protocol), args.predictions)


if __name__ == "__main__":
    run(main)
