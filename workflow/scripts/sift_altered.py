r"""Look for every altered detail among the pictures with SIFT.

Example:
    python workflow/scripts/sift_altered.py --pictures resources/demo/brueghel/images \
        --queries out/altered/queries.json --predictions out/sift.parquet
"""

from __future__ import annotations

from segswap.benchmarks.altered import load
from segswap.benchmarks.predictions import write_predictions
from segswap.benchmarks.sift import predict
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and look."""
    parser = argument_parser(__doc__)
    parser.add_argument("--pictures", required=True, help="folder of the pictures")
    parser.add_argument("--queries", required=True, help="queries.json of the altered details")
    parser.add_argument("--predictions", required=True, help="predictions to write (Parquet)")
    args = parser.parse_args()
    write_predictions(predict(load(args.queries), args.pictures), args.predictions)


if __name__ == "__main__":
    run(main)
