r"""Choose the image pairs of a collection that are worth matching.

Example:
    python workflow/scripts/candidate_pairs.py \
        --collection results/demo/features/discovery-paintings/images.json \
        --features results/demo/features/discovery-paintings/features.npy \
        --weights results/demo/backbone/backbone.pt \
        --backbone '{"architecture": "resnet10", "width": 32, "projection": 128}' --candidates 0 --windows 8 \
        --pairs out/paintings-pairs.npz
"""

from __future__ import annotations

from segswap.device import add_device_argument, pick_device
from segswap.discovery.candidates import all_pairs, candidate_pairs, window_descriptors, write_pairs
from segswap.discovery.collection import read_collection
from segswap.matching.features import FeatureStore
from segswap.models.backbones import add_backbone_arguments
from segswap.models.checkpoint import load_backbone
from segswap.program import argument_parser, run, whole_number


def main() -> None:
    """Parse the arguments and choose."""
    parser = argument_parser(__doc__)
    parser.add_argument("--collection", required=True, help="list of the images")
    parser.add_argument("--features", required=True, help="feature store of the collection")
    add_backbone_arguments(parser)
    parser.add_argument(
        "--candidates", type=whole_number(0), required=True, help="of each image, the most alike ones; 0: all"
    )
    parser.add_argument(
        "--windows", type=whole_number(1), required=True, help="along a side, by which images are compared"
    )
    add_device_argument(parser)
    parser.add_argument("--pairs", required=True, help="image pairs to write (npz)")
    args = parser.parse_args()
    count = len(read_collection(args.collection).images)
    if args.candidates == 0:
        pairs = all_pairs(count)
    else:
        backbone = load_backbone(args.weights, args.backbone)
        descriptors = window_descriptors(FeatureStore(args.features, backbone), count, args.windows)
        pairs = candidate_pairs(descriptors.to(pick_device(args.device)), args.candidates)
    print(f"{len(pairs)} of {count * (count - 1) // 2} image pairs")
    write_pairs(args.pairs, pairs)


if __name__ == "__main__":
    run(main)
