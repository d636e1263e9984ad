r"""Make the summary of all benchmarks, beside the published numbers, as CSV, Markdown and HTML.

Example:
    python workflow/scripts/summary.py --method 'SegSwap, COCO segments, transformer' \
        --facts '{"Protocol": "corrected"}' --csv out/summary.csv --markdown out/summary.md --html out/summary.html \
        results/demo/metrics/pairs.json results/demo/metrics/brueghel.json
"""

from __future__ import annotations

from pathlib import Path

from segswap.files import read_json_object
from segswap.program import argument_parser, json_object, run
from segswap.report.tables import write_summary


def main() -> None:
    """Parse the arguments and make the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument("--csv", required=True, help="table to write, for programs")
    parser.add_argument("--markdown", required=True, help="the same for text")
    parser.add_argument("--html", required=True, help="the same for pages")
    parser.add_argument("--method", required=True, help="published method that the run repeats, as its row is called")
    parser.add_argument("--facts", type=json_object, default={}, help="how the numbers came about, by title, as JSON")
    parser.add_argument("metrics", type=Path, nargs="+", help="<benchmark>.json of each benchmark")
    args = parser.parse_args()
    metrics = {path.stem: read_json_object(path) for path in args.metrics}
    write_summary(metrics, args.csv, args.markdown, args.html, method=args.method, facts=args.facts)


if __name__ == "__main__":
    run(main)
