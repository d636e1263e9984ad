r"""Compute precision and Jaccard index of stored segmentations.

Example:
    python workflow/scripts/metrics_internet.py --metrics out/metrics.json \
        results/demo/internet/trained/Airplane100-segmentations.parquet \
        results/demo/internet/trained/Car100-segmentations.parquet \
        results/demo/internet/trained/Horse100-segmentations.parquet
"""

from __future__ import annotations

from segswap.benchmarks.internet import metrics
from segswap.benchmarks.predictions import read_predictions
from segswap.files import write_json
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    parser.add_argument("--metrics", required=True, help="numbers to write (JSON)")
    parser.add_argument("segmentations", nargs="+", help="of all classes")
    args = parser.parse_args()
    write_json(args.metrics, metrics(read_predictions(args.segmentations)))


if __name__ == "__main__":
    run(main)
