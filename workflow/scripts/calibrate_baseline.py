r"""Choose the threshold of the cosine baseline on training pairs.

Example:
    python workflow/scripts/calibrate_baseline.py \
        --manifests results/demo/pairs/train/1obj/manifest.json results/demo/pairs/train/2obj/manifest.json \
        --features results/demo/features/pairs/train-1obj/features.npy \
            results/demo/features/pairs/train-2obj/features.npy \
        --pairs 60 --checkpoint results/demo/checkpoints/untrained.pt --output out/baseline.json
"""

from __future__ import annotations

from segswap.benchmarks.pairs_matching import HeldOutPairs, calibrate_threshold
from segswap.device import add_device_argument, pick_device
from segswap.files import write_json
from segswap.models.checkpoint import load_checkpoint
from segswap.program import argument_parser, run, whole_number


def main() -> None:
    """Parse the arguments and calibrate."""
    parser = argument_parser(__doc__)
    parser.add_argument("--manifests", nargs=2, required=True, help="one- and two-object training sets")
    parser.add_argument("--features", nargs=2, required=True, help="their feature stores")
    parser.add_argument("--pairs", type=whole_number(1), required=True, help="pairs of each set that are used")
    parser.add_argument("--checkpoint", required=True, help="holds the backbone")
    add_device_argument(parser)
    parser.add_argument("--output", required=True, help="threshold to write (JSON)")
    args = parser.parse_args()
    model, _ = load_checkpoint(args.checkpoint)
    train = HeldOutPairs.load(args.manifests, args.features, model.backbone, args.pairs)
    write_json(args.output, calibrate_threshold(train, pick_device(args.device)))


if __name__ == "__main__":
    run(main)
