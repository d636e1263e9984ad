r"""Draw images of each class of Internet with soft masks and segmentations of each matcher.

Example:
    python workflow/scripts/picture_internet.py --folder resources/demo/internet --classes Car100 \
        --trained results/demo/internet/trained/Car100-segmentations.parquet \
        --untrained results/demo/internet/untrained/Car100-segmentations.parquet \
        --baseline results/demo/internet/baseline/Car100-segmentations.parquet \
        --trained-masks results/demo/internet/trained/Car100-masks.npz \
        --untrained-masks results/demo/internet/untrained/Car100-masks.npz \
        --baseline-masks results/demo/internet/baseline/Car100-masks.npz --output out/internet.jpg
"""

from __future__ import annotations

from segswap.benchmarks import internet
from segswap.benchmarks.pictures import draw_internet
from segswap.benchmarks.predictions import read_by_matcher
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", required=True, help="folder of the classes")
    parser.add_argument(
        "--classes", nargs="+", required=True, help="names of folders; the files of predictions follow them"
    )
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
