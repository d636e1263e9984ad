r"""Train a backbone from nothing, on the pairs' own correspondences.

Example:
    python workflow/scripts/pretrain_backbone.py \
        --manifests results/demo/pairs/train/1obj/manifest.json results/demo/pairs/train/2obj/manifest.json \
        --backbone '{"architecture": "resnet10", "width": 32, "projection": 128}' \
        --settings '{"steps": 950, "pairs": 16, "learning_rate": 0.003, "weight_decay": 0.0001,
            "temperature": 0.07, "stylise_probability": 0.5}' \
        --compute '{"device": "auto", "workers": 0, "state_seconds": 30, "time_limit": null, "log_every": 25}' \
        --seed 1 --state out/state --weights out/backbone.pt --history out/history.csv
"""

from __future__ import annotations

from pathlib import Path

from segswap.models.backbones.resnet import ResNetSettings
from segswap.program import argument_parser, run, settings
from segswap.training.loop import RunSettings
from segswap.training.pretrain import PretrainSettings, pretrain_backbone


def main() -> None:
    """Parse the arguments and train."""
    parser = argument_parser(__doc__)
    parser.add_argument("--manifests", type=Path, nargs=2, required=True, help="one- and two-object training sets")
    parser.add_argument("--backbone", type=settings(ResNetSettings), required=True, help="as JSON")
    parser.add_argument("--settings", type=settings(PretrainSettings), required=True, help="as JSON")
    parser.add_argument("--compute", type=settings(RunSettings), required=True, help="section compute, as JSON")
    parser.add_argument("--seed", type=int, required=True, help="of every random choice")
    parser.add_argument("--state", required=True, help="folder of the rolling state")
    parser.add_argument("--weights", required=True, help="weights to write")
    parser.add_argument("--history", required=True, help="losses to write (CSV)")
    args = parser.parse_args()
    pretrain_backbone(
        args.manifests,
        args.weights,
        args.history,
        args.state,
        args.backbone,
        args.settings,
        args.compute,
        args.seed,
    )


if __name__ == "__main__":
    run(main)
