r"""Put the backbone's weights and a matcher with random weights together: the model that training starts from.

Example:
    python workflow/scripts/untrained_model.py --weights results/demo/backbone/backbone.pt \
        --backbone '{"architecture": "resnet10", "width": 32, "projection": 128}' \
        --matcher '{"size": "tiny", "dropout": 0, "initialisation": "matching"}' --seed 1 \
        --checkpoint out/untrained.pt
    python workflow/scripts/untrained_model.py --weights results/demo/backbone/backbone.pt \
        --backbone '{"architecture": "resnet10", "width": 32, "projection": 128}' \
        --matcher '{"architecture": "ncnet", "top_k": 10, "width": 16}' --seed 1 --checkpoint out/untrained.pt
"""

from __future__ import annotations

import torch

from segswap.errors import InputError
from segswap.models.architectures import ARCHITECTURES
from segswap.models.backbones import add_backbone_arguments
from segswap.models.checkpoint import load_backbone, save_checkpoint
from segswap.models.segswap import SegSwap
from segswap.program import argument_parser, json_object, run
from segswap.randomness import torch_seed


def main() -> None:
    """Parse the arguments and write the checkpoint."""
    parser = argument_parser(__doc__)
    add_backbone_arguments(parser)
    parser.add_argument(
        "--matcher",
        type=json_object,
        required=True,
        help="its settings, as JSON, and its 'architecture' where that is not a transformer",
    )
    parser.add_argument("--seed", type=int, required=True, help="of every random choice")
    parser.add_argument("--checkpoint", required=True, help="checkpoint to write")
    args = parser.parse_args()
    settings = {"architecture": "transformer", **args.matcher}
    architecture = settings.pop("architecture")
    if architecture not in ARCHITECTURES:
        raise InputError(f"--matcher: architecture is {architecture!r}; expected {', '.join(sorted(ARCHITECTURES))}")
    known = ARCHITECTURES[architecture]
    backbone = load_backbone(args.weights, args.backbone)
    torch.manual_seed(torch_seed(args.seed, architecture))
    matcher = known.matcher(known.settings(channels=backbone.channels, **settings))
    save_checkpoint(args.checkpoint, SegSwap(backbone, matcher), {"stage": 0, "steps": 0, "seed": args.seed})


if __name__ == "__main__":
    run(main)
