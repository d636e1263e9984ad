"""Write the report of a run: one page with numbers, curves, pictures, and what the data are."""

from __future__ import annotations

import argparse

from segswap.program import json_value, run
from segswap.report.page import write_page
from segswap.report.times import read_times


def main() -> None:
    """Parse the arguments and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--title", required=True)
    parser.add_argument("--config", type=json_value, required=True, help="the whole configuration, as JSON")
    for name in ("metrics", "pictures", "objects", "pair-sets", "galleries"):
        parser.add_argument(f"--{name}", type=json_value, required=True, help="files by name, as JSON")
    parser.add_argument("--summary", required=True, help="summary table (HTML)")
    parser.add_argument("--history", required=True, help="curves (SVG)")
    parser.add_argument("--clusters", help="page of the clusters of discovery (HTML)")
    parser.add_argument("--times", nargs="+", required=True, help="folders of the jobs' times (TSV)")
    parser.add_argument("--output", required=True, help="page to write")
    args = parser.parse_args()
    write_page(
        args.output,
        args.title,
        config=args.config,
        metrics=args.metrics,
        summary=args.summary,
        history=args.history,
        pictures=args.pictures,
        objects=args.objects,
        pair_sets=args.pair_sets,
        galleries=args.galleries,
        clusters=args.clusters,
        seconds=read_times(*args.times),
    )


if __name__ == "__main__":
    run(main)
