"""Train the transformer through one stage; with ``--mining`` on hard negatives (stage 2)."""

from __future__ import annotations

import argparse
from pathlib import Path

from segswap.benchmarks.pairs import metrics
from segswap.benchmarks.pairs_matching import HeldOutPairs, predict
from segswap.device import pick_device
from segswap.models.segswap import SegSwap
from segswap.program import run, settings
from segswap.training.batches import BatchSettings
from segswap.training.hard_negatives import MiningSettings
from segswap.training.loop import RunSettings, StageSettings, train_stage
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
    parser.add_argument("--stage", type=settings(StageSettings), required=True, help="as JSON")
    parser.add_argument("--batch", type=settings(BatchSettings), required=True, help="as JSON")
    parser.add_argument("--loss", type=settings(LossSettings), required=True, help="as JSON")
    parser.add_argument("--mining", type=settings(MiningSettings), help="as JSON")
    parser.add_argument("--compute", type=settings(RunSettings), required=True, help="section compute, as JSON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--state", required=True, help="folder of the rolling state")
    parser.add_argument("--checkpoint", required=True, help="checkpoint to write")
    parser.add_argument("--history", required=True, help="losses and validations to write (CSV)")
    args = parser.parse_args()
    device = pick_device(args.compute.device)

    def validate(model: SegSwap) -> dict[str, float]:
        heldout = HeldOutPairs.load(args.heldout, args.heldout_features, model.backbone, args.validation_pairs)
        return metrics(heldout.sets, predict(heldout, model.matcher, device, args.protocol))

    train_stage(
        args.initial,
        args.manifests,
        args.features or None,
        args.checkpoint,
        args.history,
        args.state,
        args.stage,
        args.batch,
        args.loss,
        args.mining,
        args.compute,
        args.seed,
        validate,
    )


if __name__ == "__main__":
    run(main)
