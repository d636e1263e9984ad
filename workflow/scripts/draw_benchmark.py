r"""Draw the miniature of a benchmark, in the layout of the published data set.

Example:
    python workflow/scripts/draw_benchmark.py --benchmark brueghel --folder out/brueghel \
        --sizes '{"details": 8, "copies": 5, "distractors": 24}' --seed 1
"""

from __future__ import annotations

from segswap.demo_world.brueghel import draw_brueghel
from segswap.demo_world.internet import draw_internet
from segswap.demo_world.places import draw_pitts30k, draw_tokyo247
from segswap.errors import InputError
from segswap.program import argument_parser, json_object, run

# By benchmark: what draws it, and the sizes that it takes, in that order.
DRAWINGS = {
    "brueghel": (draw_brueghel, ("details", "copies", "distractors")),
    "tokyo247": (draw_tokyo247, ("places", "queries")),
    "pitts30k": (draw_pitts30k, ("places", "queries")),
    "internet": (draw_internet, ("images", "noise")),
}


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    parser.add_argument("--benchmark", required=True, choices=list(DRAWINGS), help="whose miniature")
    parser.add_argument("--folder", required=True, help="folder to write")
    parser.add_argument("--sizes", type=json_object, required=True, help="section demo.<benchmark>, as JSON")
    parser.add_argument("--seed", type=int, required=True, help="of every random choice")
    args = parser.parse_args()
    draw, names = DRAWINGS[args.benchmark]
    if set(args.sizes) != set(names):
        raise InputError(f"--sizes of {args.benchmark}: expected the keys {sorted(names)}, found {sorted(args.sizes)}")
    draw(args.folder, args.seed, *(args.sizes[name] for name in names))


if __name__ == "__main__":
    run(main)
