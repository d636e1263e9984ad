r"""Compare the clusters of a collection with the labelled details.

Example:
    python workflow/scripts/metrics_discovery.py --images resources/demo/brueghel/images \
        --labels resources/demo/brueghel/labels.json --threshold 0.3 \
        --regions results/demo/discovery/trained/paintings-regions.parquet --metrics out/metrics.json
"""

from __future__ import annotations

from segswap.benchmarks import brueghel, discovery
from segswap.benchmarks.predictions import read_predictions
from segswap.files import write_json
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and compare."""
    parser = argument_parser(__doc__)
    brueghel.add_data_arguments(parser)
    parser.add_argument("--threshold", type=float, required=True, help="of the IoU")
    parser.add_argument("--regions", required=True, help="regions of the clusters")
    parser.add_argument("--metrics", required=True, help="numbers to write (JSON)")
    args = parser.parse_args()
    dataset = brueghel.load(args.images, args.labels)
    write_json(args.metrics, discovery.metrics(dataset, read_predictions([args.regions]), args.threshold))


if __name__ == "__main__":
    run(main)
