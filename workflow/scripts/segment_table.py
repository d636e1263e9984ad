r"""Make the object table of a folder of photos without annotations, and the list of what was left out.

Example:
    python workflow/scripts/segment_table.py --images resources/demo/coco/heldout/images \
        --settings '{"longer_side": 320, "scales": [100, 300, 800], "sigma": 0.8, "min_area_share": 0.02,
            "max_area_share": 0.5, "max_border_share": 0.05, "min_solidity": 0.8, "min_inscribed": 0.2,
            "max_overlap": 0.7, "max_bad_share": 0.01}' \
        --table out/objects.parquet --problems out/objects.json
"""

from __future__ import annotations

from segswap.pairs.segments import SegmentSettings, build_segment_table
from segswap.program import argument_parser, run, settings
from segswap.threads import fair_threads


def main() -> None:
    """Parse the arguments and make the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--images", required=True, help="folder of photos")
    parser.add_argument("--settings", type=settings(SegmentSettings), required=True, help="as JSON")
    parser.add_argument("--table", required=True, help="object table to write (Parquet)")
    parser.add_argument("--problems", required=True, help="counts, and names of what was left out (JSON)")
    args = parser.parse_args()
    build_segment_table(args.images, args.table, args.problems, args.settings, fair_threads())


if __name__ == "__main__":
    run(main)
