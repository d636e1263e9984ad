r"""Compute the backbone's features of the paintings, and of the queries cut out of them.

Example:
    python workflow/scripts/features_details.py --images resources/demo/brueghel/images \
        --labels resources/demo/brueghel/labels.json \
        --settings '{"image_size": 160, "query_size": 64, "box_scales": [], "thresholds": [],
            "protocol": "corrected"}' \
        --weights results/demo/backbone/backbone.pt \
        --backbone '{"architecture": "resnet10", "width": 32, "projection": 128}' --database out/database.npy \
        --queries out/queries.npy
"""

from __future__ import annotations

from segswap.benchmarks import brueghel
from segswap.device import add_device_argument, pick_device
from segswap.matching.features import extract_features
from segswap.models.backbones import add_backbone_arguments
from segswap.models.checkpoint import load_backbone
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    brueghel.add_data_arguments(parser)
    parser.add_argument("--settings", type=settings(brueghel.BrueghelSettings), required=True, help="as JSON")
    add_backbone_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--database", required=True, help="feature store of the paintings to write")
    parser.add_argument("--queries", required=True, help="feature store of the queries to write")
    args = parser.parse_args()
    dataset = brueghel.load(args.images, args.labels)
    backbone = load_backbone(args.weights, args.backbone, pick_device(args.device))
    size = (args.settings.image_size,) * 2
    loaders = brueghel.query_loaders(dataset, args.settings)
    extract_features(dataset.images, brueghel.image_loaders(dataset), backbone, size, args.database)
    extract_features(brueghel.query_names(dataset), loaders, backbone, size, args.queries)


if __name__ == "__main__":
    run(main)
