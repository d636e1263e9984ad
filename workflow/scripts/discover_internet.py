"""Discover what the images of a class have in common, and segment it."""

from __future__ import annotations

import argparse

from segswap.benchmarks import internet
from segswap.benchmarks.predictions import write_predictions
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and discover."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="folder of the classes")
    parser.add_argument("--class-name", required=True)
    parser.add_argument("--settings", type=settings(internet.InternetSettings), required=True, help="as JSON")
    parser.add_argument("--predictions", required=True, help="predictions of the class's pairs")
    parser.add_argument("--masks", required=True, help="soft masks to write (npz)")
    parser.add_argument("--segmentations", required=True, help="segmentations to write (Parquet)")
    args = parser.parse_args()
    images = internet.load(args.folder, args.class_name)
    masks = internet.discover(images, internet.PairPredictions.read(args.predictions), args.settings)
    internet.write_masks(args.masks, masks)
    write_predictions(internet.segment_class(images, masks, args.settings), args.segmentations)


if __name__ == "__main__":
    run(main)
