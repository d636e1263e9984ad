r"""Compute retrieval and detection AP of stored predictions on Brueghel.

Example:
    python workflow/scripts/metrics_details.py --images resources/demo/brueghel/images \
        --labels resources/demo/brueghel/labels.json \
        --settings '{"image_size": 160, "query_size": 64, "box_scales": [14, 12, 10, 8], "thresholds": [0.3, 0.5],
            "protocol": "corrected"}' \
        --metrics out/metrics.json --queries out/queries.parquet results/demo/brueghel/trained/predictions-0.parquet \
        results/demo/brueghel/trained/predictions-1.parquet
"""

from __future__ import annotations

import pyarrow as pa

from segswap.benchmarks import brueghel
from segswap.benchmarks.predictions import read_predictions, write_predictions
from segswap.files import write_json
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    brueghel.add_data_arguments(parser)
    parser.add_argument("--settings", type=settings(brueghel.BrueghelSettings), required=True, help="as JSON")
    parser.add_argument("--metrics", required=True, help="numbers to write (JSON)")
    parser.add_argument("--queries", required=True, help="results of every query to write (Parquet)")
    parser.add_argument("predictions", nargs="+", help="of all chunks")
    args = parser.parse_args()
    dataset = brueghel.load(args.images, args.labels)
    results = brueghel.query_results(dataset, read_predictions(args.predictions), args.settings)
    write_predictions(pa.Table.from_pylist(results), args.queries)
    write_json(args.metrics, brueghel.summarise(results, args.settings))


if __name__ == "__main__":
    run(main)
