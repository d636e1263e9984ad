r"""Compute the backbone's features of the pictures of a pair set, once.

Example:
    python workflow/scripts/pair_features.py --manifest results/demo/pairs/heldout/1obj/manifest.json \
        --weights results/demo/backbone/backbone.pt \
        --backbone '{"architecture": "resnet10", "width": 32, "projection": 128}' --limit 200 \
        --store out/features.npy
"""

from __future__ import annotations

from segswap.benchmarks.pairs import picture_loaders, picture_names
from segswap.device import add_device_argument, pick_device
from segswap.matching.features import extract_features
from segswap.models.backbones import add_backbone_arguments
from segswap.models.checkpoint import load_backbone
from segswap.pairs.pair_set import PairSet
from segswap.program import argument_parser, run, whole_number


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    parser.add_argument("--manifest", required=True, help="manifest.json of the set")
    add_backbone_arguments(parser)
    parser.add_argument("--limit", type=whole_number(1), help="only the first pairs of the set")
    add_device_argument(parser)
    parser.add_argument("--store", required=True, help="feature store to write (.npy, and .json beside it)")
    args = parser.parse_args()
    pairs = PairSet(args.manifest)
    backbone = load_backbone(args.weights, args.backbone, pick_device(args.device))
    names, loaders = picture_names(pairs, args.limit), picture_loaders(pairs, args.limit)
    extract_features(names, loaders, backbone, (pairs.settings["size"],) * 2, args.store)


if __name__ == "__main__":
    run(main)
