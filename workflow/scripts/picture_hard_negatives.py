r"""Draw the hardest negatives that stage 2 found.

Example:
    python workflow/scripts/picture_hard_negatives.py \
        --manifests results/demo/pairs/train/1obj/manifest.json results/demo/pairs/train/2obj/manifest.json \
        --pools results/demo/history/stage2-pools.parquet --output out/hard_negatives.jpg
"""

from __future__ import annotations

from segswap.benchmarks.pictures import draw_hard_negatives
from segswap.pairs.pair_set import PairSet
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    parser.add_argument("--manifests", nargs=2, required=True, help="one- and two-object training sets")
    parser.add_argument("--pools", required=True, help="scored pools of stage 2")
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    draw_hard_negatives([PairSet(manifest) for manifest in args.manifests], args.pools, args.output, count=12)


if __name__ == "__main__":
    run(main)
