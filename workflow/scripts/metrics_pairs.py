r"""Compute the numbers of stored predictions on held-out pairs.

Example:
    python workflow/scripts/metrics_pairs.py \
        --manifests results/demo/pairs/heldout/1obj/manifest.json results/demo/pairs/heldout/2obj/manifest.json \
        --metrics out/metrics.json results/demo/pairs_benchmark/trained/predictions.parquet
"""

from __future__ import annotations

from segswap.benchmarks.pairs import metrics
from segswap.benchmarks.predictions import read_predictions
from segswap.files import write_json
from segswap.pairs.pair_set import PairSet
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    parser.add_argument("--manifests", nargs=2, required=True, help="one- and two-object held-out sets")
    parser.add_argument("--metrics", required=True, help="numbers to write (JSON)")
    parser.add_argument("predictions", nargs="+", help="of one matcher")
    args = parser.parse_args()
    sets = [PairSet(manifest) for manifest in args.manifests]
    write_json(args.metrics, metrics(sets, read_predictions(args.predictions)))


if __name__ == "__main__":
    run(main)
