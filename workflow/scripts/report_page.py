"""Write the report of a run: one page with numbers, curves, pictures, and what the data are."""

from __future__ import annotations

import argparse

from segswap.program import json_value, run
from segswap.report.page import write_page


def main() -> None:
    """Parse the arguments and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--title", required=True)
    for name in ("pictures", "objects", "pair-sets", "galleries"):
        parser.add_argument(f"--{name}", type=json_value, required=True, help="files by name, as JSON")
    parser.add_argument("--summary", required=True, help="summary table (HTML)")
    parser.add_argument("--history", required=True, help="curves (SVG)")
    parser.add_argument("--clusters", help="page of the clusters of discovery (HTML)")
    parser.add_argument("--provenance", required=True, help="software, files, times and settings (HTML)")
    parser.add_argument("--output", required=True, help="page to write")
    args = parser.parse_args()
    write_page(
        args.output,
        args.title,
        summary=args.summary,
        history=args.history,
        pictures=args.pictures,
        objects=args.objects,
        pair_sets=args.pair_sets,
        galleries=args.galleries,
        clusters=args.clusters,
        provenance=args.provenance,
    )


if __name__ == "__main__":
    run(main)
