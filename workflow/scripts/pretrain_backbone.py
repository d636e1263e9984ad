"""Train a backbone from nothing, on the pairs' own correspondences."""

from __future__ import annotations

import argparse
from pathlib import Path

from segswap.models.backbone import BackboneSettings
from segswap.program import run, settings
from segswap.training.loop import RunSettings
from segswap.training.pretrain import PretrainSettings, pretrain_backbone


def main() -> None:
    """Parse the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifests", type=Path, nargs=2, required=True, help="one- and two-object training sets")
    parser.add_argument("--backbone", type=settings(BackboneSettings), required=True, help="as JSON")
    parser.add_argument("--settings", type=settings(PretrainSettings), required=True, help="as JSON")
    parser.add_argument("--compute", type=settings(RunSettings), required=True, help="section compute, as JSON")
    parser.add_argument("--seed", type=int, required=True)
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
