r"""Train the matcher through one stage; with ``--mining`` on hard negatives (stage 2).

Started by ``torchrun`` it trains together with the other processes.

Example:
    python workflow/scripts/train_stage.py --initial results/demo/checkpoints/untrained.pt \
        --manifests results/demo/pairs/train/1obj/manifest.json results/demo/pairs/train/2obj/manifest.json \
        --features results/demo/features/pairs/train-1obj/features.npy \
            results/demo/features/pairs/train-2obj/features.npy \
        --heldout results/demo/pairs/heldout/1obj/manifest.json results/demo/pairs/heldout/2obj/manifest.json \
        --heldout-features results/demo/features/pairs/heldout-1obj/features.npy \
            results/demo/features/pairs/heldout-2obj/features.npy \
        --validation-pairs 60 --protocol corrected \
        --stage '{"epochs": 5, "steps_per_epoch": 270, "learning_rate": 0.0015, "beta2": 0.99,
            "gradient_clip": 1.0, "warmup_steps": 100, "schedule": "cosine", "drop_epoch": 50, "drop_factor": 0.05,
            "select": "roc_auc"}' \
        --batch '{"positives": 8, "negatives": 2, "two_object_share": 0.5, "stylise_probability": 0.5,
            "warp_probability": 0, "warp_grids": [4, 6], "hide_probability": 0.2, "swap_probability": 0.5}' \
        --loss '{"eta": 8, "correspondence_cells": "all", "transport": true}' \
        --numerics '{"precision": "auto", "compile": "auto", "deterministic": "auto"}' \
        --compute '{"device": "auto", "workers": 0, "state_seconds": 30, "time_limit": null, "log_every": 25}' \
        --seed 1 --state out/stage1 --board out/stage1 --checkpoint out/stage1.pt --last out/stage1-last.pt \
        --history out/stage1.csv
"""

from __future__ import annotations

from pathlib import Path

from segswap.benchmarks.brueghel import BrueghelSettings
from segswap.benchmarks.validation import BrueghelFiles, and_on_brueghel, on_heldout_pairs
from segswap.device import pick_device
from segswap.program import argument_parser, run, settings, whole_number
from segswap.training.batches import BatchSettings
from segswap.training.loop import RunSettings, StageFiles, StageSettings, train_stage
from segswap.training.numerics import Numerics
from segswap.training.pools import MiningSettings
from segswap.training.step import LossSettings


def main() -> None:
    """Parse the arguments and train."""
    parser = argument_parser(__doc__)
    parser.add_argument("--initial", required=True, help="checkpoint to start from")
    parser.add_argument("--manifests", type=Path, nargs=2, required=True, help="one- and two-object training sets")
    parser.add_argument("--features", type=Path, nargs="*", help="their feature stores; without: computed in each step")
    parser.add_argument("--heldout", type=Path, nargs=2, required=True, help="one- and two-object held-out sets")
    parser.add_argument("--heldout-features", type=Path, nargs=2, required=True, help="their feature stores")
    parser.add_argument("--validation-pairs", type=whole_number(1), required=True, help="held-out pairs of each kind")
    parser.add_argument("--protocol", required=True, help="corrected, or as in the published code")
    parser.add_argument("--brueghel", type=settings(BrueghelFiles), help="validate on Brueghel too: files, as JSON")
    parser.add_argument("--brueghel-settings", type=settings(BrueghelSettings), help="its protocol, as JSON")
    parser.add_argument("--stage", type=settings(StageSettings), required=True, help="as JSON")
    parser.add_argument("--batch", type=settings(BatchSettings), required=True, help="as JSON")
    parser.add_argument("--loss", type=settings(LossSettings), required=True, help="as JSON")
    parser.add_argument("--mining", type=settings(MiningSettings), help="as JSON")
    parser.add_argument("--numerics", type=settings(Numerics), required=True, help="as JSON")
    parser.add_argument("--compute", type=settings(RunSettings), required=True, help="section compute, as JSON")
    parser.add_argument("--seed", type=int, required=True, help="of every random choice")
    parser.add_argument("--state", required=True, help="folder of the rolling state")
    parser.add_argument("--board", help="folder for TensorBoard")
    parser.add_argument("--checkpoint", required=True, help="checkpoint of the best model to write")
    parser.add_argument("--last", required=True, help="checkpoint of the last model to write")
    parser.add_argument("--history", required=True, help="losses and validations to write (CSV)")
    parser.add_argument("--pools", help="scored pools of hard negatives to write (Parquet)")
    args = parser.parse_args()
    device = pick_device(args.compute.device)
    validate = on_heldout_pairs(args.heldout, args.heldout_features, args.validation_pairs, args.protocol, device)
    if args.brueghel:
        validate = and_on_brueghel(validate, args.brueghel, args.brueghel_settings, device)
    files = StageFiles(
        initial=args.initial,
        manifests=args.manifests,
        features=args.features or None,
        best=args.checkpoint,
        last=args.last,
        history=args.history,
        state=args.state,
        pools=args.pools,
        board=args.board,
    )
    train_stage(files, args.stage, args.batch, args.loss, args.mining, args.numerics, args.compute, args.seed, validate)


if __name__ == "__main__":
    run(main)
