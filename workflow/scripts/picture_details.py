r"""Draw one query of each category of Brueghel with the best results of each matcher.

Example:
    python workflow/scripts/picture_details.py --images resources/demo/brueghel/images \
        --labels resources/demo/brueghel/labels.json \
        --settings '{"image_size": 160, "query_size": 64, "box_scales": [14, 12, 10, 8], "thresholds": [0.3, 0.5],
            "protocol": "corrected"}' \
        --trained results/demo/brueghel/trained/predictions-0.parquet \
            results/demo/brueghel/trained/predictions-1.parquet \
        --untrained results/demo/brueghel/untrained/predictions-0.parquet \
            results/demo/brueghel/untrained/predictions-1.parquet \
        --baseline results/demo/brueghel/baseline/predictions-0.parquet \
            results/demo/brueghel/baseline/predictions-1.parquet \
        --output out/brueghel.jpg
"""

from __future__ import annotations

from segswap.benchmarks import brueghel
from segswap.benchmarks.pictures import draw_brueghel
from segswap.benchmarks.predictions import add_by_matcher_arguments, read_by_matcher
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    brueghel.add_data_arguments(parser)
    parser.add_argument("--settings", type=settings(brueghel.BrueghelSettings), required=True, help="as JSON")
    add_by_matcher_arguments(parser)
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    tables = read_by_matcher(args.trained, args.untrained, args.baseline)
    draw_brueghel(brueghel.load(args.images, args.labels), tables, args.settings, args.output)


if __name__ == "__main__":
    run(main)
