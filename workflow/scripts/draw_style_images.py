"""Draw the demo world's style images."""

from __future__ import annotations

import argparse

from segswap.demo_world.coco import draw_style_images
from segswap.program import run


def main() -> None:
    """Parse the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--images", type=int, required=True, help="number of style images")
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    draw_style_images(args.folder, args.seed, args.images)


if __name__ == "__main__":
    run(main)
