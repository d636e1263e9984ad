r"""Draw the miniature of a benchmark, in the layout of the published data set.

Example:
    python workflow/scripts/draw_benchmark.py --benchmark brueghel --folder out/brueghel \
        --sizes '{"details": 8, "copies": 5, "distractors": 24}' --seed 1
"""

from __future__ import annotations

from segswap.demo_world.brueghel import draw_brueghel
from segswap.demo_world.internet import draw_internet
from segswap.demo_world.places import draw_pitts30k, draw_tokyo247
from segswap.program import argument_parser, json_value, run


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--benchmark", required=True, choices=["brueghel", "tokyo247", "pitts30k", "internet"], help="whose miniature"
    )
    parser.add_argument("--folder", required=True, help="folder to write")
    parser.add_argument("--sizes", type=json_value, required=True, help="section demo.<benchmark>, as JSON")
    parser.add_argument("--seed", type=int, required=True, help="of every random choice")
    args = parser.parse_args()
    folder, seed, sizes = args.folder, args.seed, args.sizes
    if args.benchmark == "brueghel":
        draw_brueghel(folder, seed, sizes["details"], sizes["copies"], sizes["distractors"])
    elif args.benchmark == "tokyo247":
        draw_tokyo247(folder, seed, sizes["places"], sizes["queries"])
    elif args.benchmark == "pitts30k":
        draw_pitts30k(folder, seed, sizes["places"], sizes["queries"])
    else:
        draw_internet(folder, seed, sizes["images"], sizes["noise"])


if __name__ == "__main__":
    run(main)
