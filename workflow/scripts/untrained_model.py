"""Put the backbone's weights and a transformer with random weights together: the model that training starts from."""

from __future__ import annotations

import argparse

import torch

from segswap.models.backbone import BackboneSettings
from segswap.models.checkpoint import load_backbone, save_checkpoint
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.program import json_value, run, settings
from segswap.randomness import torch_seed


def main() -> None:
    """Parse the arguments and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True, help="weights of the backbone")
    parser.add_argument("--backbone", type=settings(BackboneSettings), required=True, help="as JSON")
    parser.add_argument("--transformer", type=json_value, required=True, help="section transformer, as JSON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--checkpoint", required=True, help="checkpoint to write")
    args = parser.parse_args()
    backbone = load_backbone(args.weights, args.backbone)
    torch.manual_seed(torch_seed(args.seed, "transformer"))
    matcher = Transformer(TransformerSettings(channels=backbone.channels, **args.transformer))
    save_checkpoint(args.checkpoint, SegSwap(backbone, matcher), {"stage": 0, "steps": 0, "seed": args.seed})


if __name__ == "__main__":
    run(main)
