r"""Draw some altered details with the first picture that each matcher and SIFT find.

Example:
    python workflow/scripts/picture_altered.py --pictures resources/demo/brueghel/images \
        --queries out/altered/queries.json --trained out/trained.parquet --untrained out/untrained.parquet \
        --baseline out/baseline.parquet --sift out/sift.parquet --output out/altered.jpg
"""

from __future__ import annotations

from segswap.benchmarks.altered import load
from segswap.benchmarks.pictures import draw_altered
from segswap.benchmarks.predictions import add_by_matcher_arguments, read_by_matcher, read_predictions
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    parser.add_argument("--pictures", required=True, help="folder of the pictures")
    parser.add_argument("--queries", required=True, help="queries.json of the altered details")
    add_by_matcher_arguments(parser)
    parser.add_argument("--sift", required=True, help="predictions of SIFT")
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    tables = read_by_matcher(args.trained, args.untrained, args.baseline)
    tables["SIFT"] = read_predictions([args.sift])
    draw_altered(load(args.queries), args.pictures, tables, args.output)


if __name__ == "__main__":
    run(main)
