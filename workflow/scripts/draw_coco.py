"""Draw one split of the demo world's photos, with annotations in COCO's format.

Example:
    python workflow/scripts/draw_coco.py --folder out/train --split train --images 1500 --seed 1 --workers 2
"""

from __future__ import annotations

from segswap.demo_world.coco import draw_coco
from segswap.program import argument_parser, run, whole_number


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", required=True, help="gets images/ and annotations.json")
    parser.add_argument("--split", required=True, help="name of the split, part of every scene's seed")
    parser.add_argument("--images", type=whole_number(1), required=True, help="number of scenes")
    parser.add_argument("--seed", type=int, required=True, help="of every random choice")
    parser.add_argument("--workers", type=whole_number(1), default=1, help="processes that draw side by side")
    args = parser.parse_args()
    draw_coco(args.folder, args.seed, args.split, args.images, args.workers)


if __name__ == "__main__":
    run(main)
