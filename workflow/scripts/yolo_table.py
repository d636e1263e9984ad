r"""Make the object table of photos with YOLO's segmentation labels, and the list of what was left out.

Example:
    python workflow/scripts/yolo_table.py --images data/yolo/images/train --labels data/yolo/labels/train \
        --names data/yolo/data.yaml \
        --settings '{"min_area_share": 0.002, "max_area_share": 0.9, "max_bad_share": 0.01}' \
        --table out/objects.parquet --problems out/objects.json
"""

from __future__ import annotations

from segswap.pairs.annotations import ObjectSettings
from segswap.pairs.yolo import build_yolo_table
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and make the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--images", required=True, help="folder of photos")
    parser.add_argument("--labels", required=True, help="folder of their label files (.txt)")
    parser.add_argument(
        "--names", help="names of the classes: one a line, or YOLO's YAML file; default: class <number>"
    )
    parser.add_argument("--settings", type=settings(ObjectSettings), required=True, help="as JSON")
    parser.add_argument("--table", required=True, help="object table to write (Parquet)")
    parser.add_argument("--problems", required=True, help="counts, and names of what was left out (JSON)")
    args = parser.parse_args()
    build_yolo_table(args.images, args.labels, args.names, args.table, args.problems, args.settings)


if __name__ == "__main__":
    run(main)
