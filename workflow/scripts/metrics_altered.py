r"""Compute recalls, ranks and the overlap of boxes of stored predictions of altered details.

Example:
    python workflow/scripts/metrics_altered.py --queries out/altered/queries.json \
        --predictions out/predictions.parquet --metrics out/metrics.json --results out/queries.parquet
"""

from __future__ import annotations

import pyarrow as pa

from segswap.benchmarks.altered import load, query_results, summarise
from segswap.benchmarks.predictions import read_predictions, write_predictions
from segswap.files import write_json
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    parser.add_argument("--queries", required=True, help="queries.json of the altered details")
    parser.add_argument("--predictions", required=True, help="of a matcher, or of SIFT")
    parser.add_argument("--metrics", required=True, help="numbers to write (JSON)")
    parser.add_argument("--results", required=True, help="results of every query to write (Parquet)")
    args = parser.parse_args()
    results = query_results(load(args.queries), read_predictions([args.predictions]))
    write_predictions(pa.Table.from_pylist(results), args.results)
    write_json(args.metrics, summarise(results))


if __name__ == "__main__":
    run(main)
