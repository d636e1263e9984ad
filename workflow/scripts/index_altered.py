r"""Index a folder of pictures for the search of altered details.

Example:
    python workflow/scripts/index_altered.py --pictures resources/demo/brueghel/images \
        --weights results/demo/backbone/backbone.pt \
        --backbone '{"architecture": "resnet10", "width": 32, "projection": 128}' --index out/index
"""

from __future__ import annotations

from segswap.device import add_device_argument, pick_device
from segswap.matching.cosine import CosineMatcher
from segswap.models.backbones import add_backbone_arguments
from segswap.models.checkpoint import load_backbone
from segswap.models.segswap import SegSwap
from segswap.program import argument_parser, run
from segswap.search.index import open_index


def main() -> None:
    """Parse the arguments and index."""
    parser = argument_parser(__doc__)
    parser.add_argument("--pictures", required=True, help="folder of pictures")
    add_backbone_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--index", required=True, help="folder of the index to write")
    args = parser.parse_args()
    backbone = load_backbone(args.weights, args.backbone, pick_device(args.device))
    # An index is made with the backbone alone; the matcher is any.
    open_index(args.pictures, SegSwap(backbone, CosineMatcher(0.0)), args.index)


if __name__ == "__main__":
    run(main)
