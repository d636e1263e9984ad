"""Make the object table of a folder of photos without annotations, and the list of what was left out."""

from __future__ import annotations

import argparse

from segswap.pairs.segments import SegmentSettings, build_segment_table
from segswap.program import fair_threads, run, settings


def main() -> None:
    """Parse the arguments and make the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of photos")
    parser.add_argument("--settings", type=settings(SegmentSettings), required=True, help="as JSON")
    parser.add_argument("--table", required=True, help="object table to write (Parquet)")
    parser.add_argument("--problems", required=True, help="counts, and names of what was left out (JSON)")
    args = parser.parse_args()
    build_segment_table(args.images, args.table, args.problems, args.settings, fair_threads())


if __name__ == "__main__":
    run(main)
