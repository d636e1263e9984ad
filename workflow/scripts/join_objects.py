r"""Join the object tables of several sources, and list what was left out.

Example:
    python workflow/scripts/join_objects.py \
        --sources '{"source": "annotations", "images": "resources/demo/coco/train/images"}' \
            '{"source": "segments", "images": "data/photos"}' \
        --tables results/demo/objects/train/objects.parquet data/segments.parquet \
        --counts results/demo/objects/train/objects.json data/segments.json \
        --heldout-table results/demo/objects/heldout/objects.parquet \
        --heldout-images resources/demo/coco/heldout/images --table out/objects.parquet --problems out/objects.json
"""

from __future__ import annotations

from segswap.pairs.sources import HeldOut, Source, join_tables
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and join."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--sources", type=settings(Source), nargs="+", required=True, help="each as in the configuration, as JSON"
    )
    parser.add_argument("--tables", nargs="+", required=True, help="object table of each source")
    parser.add_argument("--counts", nargs="+", required=True, help="what that has left out, of each source (JSON)")
    parser.add_argument("--heldout-table", help="held-out objects, whose photos are left out")
    parser.add_argument("--heldout-images", nargs="+", help="folder of their photos, or the folder of each source")
    parser.add_argument("--table", required=True, help="object table to write (Parquet)")
    parser.add_argument("--problems", required=True, help="counts, and names of what was left out (JSON)")
    args = parser.parse_args()
    heldout = HeldOut(args.heldout_table, args.heldout_images) if args.heldout_table else None
    join_tables(args.sources, args.tables, args.counts, args.table, args.problems, heldout)


if __name__ == "__main__":
    run(main)
