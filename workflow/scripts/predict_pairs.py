r"""Match held-out pairs, related and unrelated ones.

Example:
    python workflow/scripts/predict_pairs.py \
        --manifests results/demo/pairs/heldout/1obj/manifest.json results/demo/pairs/heldout/2obj/manifest.json \
        --features results/demo/features/pairs/heldout-1obj/features.npy \
            results/demo/features/pairs/heldout-2obj/features.npy \
        --limit 200 --checkpoint results/demo/checkpoints/stage2.pt --protocol corrected --device auto \
        --predictions out/predictions.parquet
"""

from __future__ import annotations

from segswap.benchmarks.pairs_matching import HeldOutPairs, predict
from segswap.benchmarks.predictions import write_predictions
from segswap.device import add_device_argument, pick_device
from segswap.matching.predict import add_matcher_arguments, load_matcher
from segswap.matching.score import PROTOCOLS
from segswap.program import argument_parser, run, whole_number


def main() -> None:
    """Parse the arguments and predict."""
    parser = argument_parser(__doc__)
    parser.add_argument("--manifests", nargs=2, required=True, help="one- and two-object held-out sets")
    parser.add_argument("--features", nargs=2, required=True, help="their feature stores")
    parser.add_argument("--limit", type=whole_number(1), required=True, help="pairs of each set that are judged")
    add_matcher_arguments(parser)
    parser.add_argument("--protocol", required=True, choices=PROTOCOLS, help="corrected, or as in the published code")
    add_device_argument(parser)
    parser.add_argument("--predictions", required=True, help="predictions to write (Parquet)")
    args = parser.parse_args()
    device = pick_device(args.device)
    backbone, matcher = load_matcher(args.checkpoint, args.baseline)
    heldout = HeldOutPairs.load(args.manifests, args.features, backbone, args.limit)
    write_predictions(predict(heldout, matcher.to(device), device, args.protocol), args.predictions)


if __name__ == "__main__":
    run(main)
