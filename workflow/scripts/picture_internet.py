"""Draw images of each class of Internet with soft masks and segmentations of each matcher."""

from __future__ import annotations

import argparse

from segswap.benchmarks import internet
from segswap.benchmarks.pictures import draw_internet
from segswap.benchmarks.predictions import read_by_matcher
from segswap.program import run


def main() -> None:
    """Parse the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="folder of the classes")
    parser.add_argument("--classes", nargs="+", required=True)
    for matcher in ("trained", "untrained", "baseline"):
        parser.add_argument(f"--{matcher}", nargs="+", required=True, help="segmentations, a file for each class")
        parser.add_argument(f"--{matcher}-masks", nargs="+", required=True, help="soft masks, a file for each class")
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    masks = {"SegSwap": args.trained_masks, "untrained": args.untrained_masks, "cosine": args.baseline_masks}
    draw_internet(
        [internet.load(args.folder, name) for name in args.classes],
        {
            matcher: dict(zip(args.classes, map(internet.read_masks, paths), strict=True))
            for matcher, paths in masks.items()
        },
        read_by_matcher(args.trained, args.untrained, args.baseline),
        args.output,
    )


if __name__ == "__main__":
    run(main)
