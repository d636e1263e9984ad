r"""Draw the best cluster of each labelled detail.

Example:
    python workflow/scripts/picture_discovery.py --images resources/demo/brueghel/images \
        --labels resources/demo/brueghel/labels.json --threshold 0.3 \
        --regions results/demo/discovery/trained/paintings-regions.parquet --output out/discovery.jpg
"""

from __future__ import annotations

from segswap.benchmarks import brueghel, discovery
from segswap.benchmarks.predictions import read_predictions
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    brueghel.add_data_arguments(parser)
    parser.add_argument("--threshold", type=float, required=True, help="of the IoU")
    parser.add_argument("--regions", required=True, help="regions of the clusters")
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    dataset = brueghel.load(args.images, args.labels)
    discovery.draw_discovery(dataset, read_predictions([args.regions]), args.threshold, args.output)


if __name__ == "__main__":
    run(main)
