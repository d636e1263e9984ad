r"""Draw held-out pairs with what each matcher predicts.

Example:
    python workflow/scripts/picture_pairs.py \
        --manifests results/demo/pairs/heldout/1obj/manifest.json results/demo/pairs/heldout/2obj/manifest.json \
        --trained results/demo/pairs_benchmark/trained/predictions.parquet \
        --untrained results/demo/pairs_benchmark/untrained/predictions.parquet \
        --baseline results/demo/pairs_benchmark/baseline/predictions.parquet --output out/pairs.jpg
"""

from __future__ import annotations

from segswap.benchmarks.pictures import draw_pairs
from segswap.benchmarks.predictions import add_by_matcher_arguments, read_by_matcher
from segswap.pairs.pair_set import PairSet
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and draw."""
    parser = argument_parser(__doc__)
    parser.add_argument("--manifests", nargs=2, required=True, help="one- and two-object held-out sets")
    add_by_matcher_arguments(parser)
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    tables = read_by_matcher(args.trained, args.untrained, args.baseline)
    draw_pairs([PairSet(manifest) for manifest in args.manifests], tables, args.output, count=12)


if __name__ == "__main__":
    run(main)
