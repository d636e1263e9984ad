"""Put the runs of a study side by side in one table, as CSV, Markdown and HTML."""

from __future__ import annotations

import argparse

from segswap.files import read_json
from segswap.program import json_value, run
from segswap.report.comparison import write_comparison


def main() -> None:
    """Parse the arguments and make the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--metrics", type=json_value, required=True, help="by run: the file of each benchmark's metrics, as JSON"
    )
    parser.add_argument("--changes", type=json_value, required=True, help="by run: keys that differ, as JSON")
    parser.add_argument("--csv", required=True)
    parser.add_argument("--markdown", required=True)
    parser.add_argument("--html", required=True)
    args = parser.parse_args()
    runs = {
        name: {benchmark: read_json(path) for benchmark, path in files.items()} for name, files in args.metrics.items()
    }
    write_comparison(runs, args.changes, args.csv, args.markdown, args.html)


if __name__ == "__main__":
    run(main)
