"""Make the summary of all benchmarks, beside the published numbers, as CSV, Markdown and HTML."""

from __future__ import annotations

import argparse
from pathlib import Path

from segswap.files import read_json
from segswap.program import json_value, run
from segswap.report.tables import write_summary


def main() -> None:
    """Parse the arguments and make the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", required=True)
    parser.add_argument("--markdown", required=True)
    parser.add_argument("--html", required=True)
    parser.add_argument("--facts", type=json_value, default={}, help="how the numbers came about, by title, as JSON")
    parser.add_argument("metrics", type=Path, nargs="+", help="<benchmark>.json of each benchmark")
    args = parser.parse_args()
    metrics = {path.stem: read_json(path) for path in args.metrics}
    write_summary(metrics, args.csv, args.markdown, args.html, args.facts)


if __name__ == "__main__":
    run(main)
