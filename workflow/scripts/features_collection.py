r"""Compute the backbone's features of the images of a collection.

Example:
    python workflow/scripts/features_collection.py \
        --collection results/demo/features/discovery-paintings/images.json --image-size 240 \
        --weights results/demo/backbone/backbone.pt \
        --backbone '{"architecture": "resnet10", "width": 32, "projection": 128}' --store out/features.npy
"""

from __future__ import annotations

from segswap.device import add_device_argument, pick_device
from segswap.discovery.collection import read_collection
from segswap.geometry import STRIDE
from segswap.matching.features import extract_features
from segswap.models.backbones import add_backbone_arguments
from segswap.models.checkpoint import load_backbone
from segswap.program import argument_parser, run, whole_number


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    parser.add_argument("--collection", required=True, help="list of the images")
    parser.add_argument(
        "--image-size",
        type=whole_number(STRIDE, STRIDE),
        required=True,
        help="side in pixels that images are squashed to",
    )
    parser.add_argument("--flip", action="store_true", help="mirror images as well")
    add_backbone_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--store", required=True, help="feature store to write")
    args = parser.parse_args()
    collection = read_collection(args.collection)
    backbone = load_backbone(args.weights, args.backbone, pick_device(args.device))
    names, loaders = collection.feature_names(args.flip), collection.loaders(args.flip)
    extract_features(names, loaders, backbone, (args.image_size,) * 2, args.store)


if __name__ == "__main__":
    run(main)
