r"""Put the runs of a study side by side, and beside the published numbers, as CSV, Markdown and HTML.

Example:
    python workflow/scripts/compare_runs.py \
        --metrics '{"ablations-full": {"pairs": "results/ablations-full/metrics/pairs.json"},
            "ablations-no-style": {"pairs": "results/ablations-no-style/metrics/pairs.json"}}' \
        --changes '{"ablations-full": {}, "ablations-no-style": {"style": {"method": "none"}}}' \
        --methods '{"ablations-full": "SegSwap, COCO segments, transformer",
            "ablations-no-style": "SegSwap, COCO segments, transformer"}' \
        --csv out/comparison.csv --markdown out/comparison.md --html out/comparison.html
"""

from __future__ import annotations

from segswap.files import read_json_object
from segswap.program import argument_parser, json_object, run
from segswap.report.comparison import write_comparison


def main() -> None:
    """Parse the arguments and make the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--metrics", type=json_object, required=True, help="by run: the file of each benchmark's metrics, as JSON"
    )
    parser.add_argument("--changes", type=json_object, required=True, help="by run: keys that differ, as JSON")
    parser.add_argument(
        "--methods", type=json_object, required=True, help="by run: the published method that it repeats, as JSON"
    )
    parser.add_argument("--csv", required=True, help="table to write, for programs")
    parser.add_argument("--markdown", required=True, help="the same for text")
    parser.add_argument("--html", required=True, help="the same for pages")
    args = parser.parse_args()
    runs = {
        name: {benchmark: read_json_object(path) for benchmark, path in files.items()}
        for name, files in args.metrics.items()
    }
    write_comparison(runs, args.changes, args.methods, args.csv, args.markdown, args.html)


if __name__ == "__main__":
    run(main)
