r"""Cut details out of pictures, alter and repaint them, and paste them into photos: queries whose picture is known.

Example:
    python workflow/scripts/alter_details.py --pictures resources/demo/brueghel/images \
        --hosts resources/demo/coco/heldout/images --settings '{"details": 4, "share": [0.3, 0.5]}' --seed 1 \
        --folder out/altered
"""

from __future__ import annotations

from segswap.benchmarks.altered import AlteredSettings, make_queries
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and make the queries."""
    parser = argument_parser(__doc__)
    parser.add_argument("--pictures", required=True, help="folder of the pictures that details are cut out of")
    parser.add_argument("--hosts", nargs="+", required=True, help="folders of the photos that details are pasted into")
    parser.add_argument("--settings", type=settings(AlteredSettings), required=True, help="as JSON")
    parser.add_argument("--seed", type=int, required=True, help="of every random choice")
    parser.add_argument("--folder", required=True, help="folder to write: images/ and queries.json")
    args = parser.parse_args()
    make_queries(args.pictures, args.hosts, args.folder, args.settings, args.seed)


if __name__ == "__main__":
    run(main)
