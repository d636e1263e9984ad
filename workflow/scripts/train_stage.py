"""Train the transformer through one stage; with ``--mining`` on hard negatives (stage 2).

Started by ``torchrun`` it trains together with the other processes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from segswap.benchmarks.brueghel import BrueghelSettings
from segswap.benchmarks.validation import BrueghelFiles, and_on_brueghel, on_heldout_pairs
from segswap.device import pick_device
from segswap.program import run, settings
from segswap.training.batches import BatchSettings
from segswap.training.loop import RunSettings, StageFiles, StageSettings, train_stage
from segswap.training.numerics import Numerics
from segswap.training.pools import MiningSettings
from segswap.training.step import LossSettings


def main() -> None:
    """Parse the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--initial", required=True, help="checkpoint to start from")
    parser.add_argument("--manifests", type=Path, nargs=2, required=True, help="one- and two-object training sets")
    parser.add_argument("--features", type=Path, nargs="*", help="their feature stores; without: computed in each step")
    parser.add_argument("--heldout", type=Path, nargs=2, required=True, help="one- and two-object held-out sets")
    parser.add_argument("--heldout-features", type=Path, nargs=2, required=True, help="their feature stores")
    parser.add_argument("--validation-pairs", type=int, required=True, help="held-out pairs of each kind")
    parser.add_argument("--protocol", required=True)
    parser.add_argument("--brueghel", type=settings(BrueghelFiles), help="validate on Brueghel too: files, as JSON")
    parser.add_argument("--brueghel-settings", type=settings(BrueghelSettings), help="its protocol, as JSON")
    parser.add_argument("--stage", type=settings(StageSettings), required=True, help="as JSON")
    parser.add_argument("--batch", type=settings(BatchSettings), required=True, help="as JSON")
    parser.add_argument("--loss", type=settings(LossSettings), required=True, help="as JSON")
    parser.add_argument("--mining", type=settings(MiningSettings), help="as JSON")
    parser.add_argument("--numerics", type=settings(Numerics), required=True, help="as JSON")
    parser.add_argument("--compute", type=settings(RunSettings), required=True, help="section compute, as JSON")
    parser.add_argument("--seed", type=int, required=True)
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
