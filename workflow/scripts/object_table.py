r"""Make the object table of a COCO data set, and the list of what was left out.

Example:
    python workflow/scripts/object_table.py --annotations resources/demo/coco/train/annotations.json \
        --images resources/demo/coco/train/images \
        --settings '{"min_area_share": 0.002, "max_area_share": 0.9, "max_bad_share": 0.01}' \
        --table out/objects.parquet --problems out/objects.json
"""

from __future__ import annotations

from segswap.pairs.annotations import ObjectSettings
from segswap.pairs.coco import build_object_table
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and make the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--annotations", required=True, help="COCO annotation file")
    parser.add_argument("--images", required=True, help="folder of its images")
    parser.add_argument("--settings", type=settings(ObjectSettings), required=True, help="as JSON")
    parser.add_argument("--table", required=True, help="object table to write (Parquet)")
    parser.add_argument("--problems", required=True, help="counts, and names of what was left out (JSON)")
    args = parser.parse_args()
    build_object_table(args.annotations, args.images, args.table, args.problems, args.settings)


if __name__ == "__main__":
    run(main)
