"""Compute the statistics of every style image: all that restyling needs of it."""

from __future__ import annotations

import argparse

from segswap.pairs.style import METHODS, compute_style_statistics, load_stylist
from segswap.program import run


def main() -> None:
    """Parse the arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="folder of style images")
    parser.add_argument("--method", required=True, choices=[method for method in METHODS if method != "none"])
    parser.add_argument("--vgg", help="AdaIN's encoder")
    parser.add_argument("--decoder", help="AdaIN's decoder")
    parser.add_argument("--device", default="auto", help="torch device, for AdaIN")
    parser.add_argument("--output", required=True, help="statistics to write (npz)")
    args = parser.parse_args()
    compute_style_statistics(args.folder, args.output, load_stylist(args.method, args.vgg, args.decoder, args.device))


if __name__ == "__main__":
    run(main)
