"""Draw the demo world's style images.

Example:
    python workflow/scripts/draw_style_images.py --folder out/styles --images 48 --seed 1
"""

from __future__ import annotations

from segswap.demo_world.coco import draw_style_images
from segswap.program import argument_parser, run, whole_number


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", required=True, help="folder to write")
    parser.add_argument("--images", type=whole_number(1), required=True, help="number of style images")
    parser.add_argument("--seed", type=int, required=True, help="of every random choice")
    args = parser.parse_args()
    draw_style_images(args.folder, args.seed, args.images)


if __name__ == "__main__":
    run(main)
