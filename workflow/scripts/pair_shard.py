r"""Render one shard of pairs.

Example:
    python workflow/scripts/pair_shard.py --table results/demo/objects/train/objects.parquet \
        --images resources/demo/coco/train/images --kind 1obj --shard 0 --pairs 2200 --pairs-per-shard 550 \
        --settings '{"size": 160, "dilation": 6, "crop_probability": 0.2, "stretch": [0.7, 1.0], "rotation": 15,
            "fit_steps": 10, "fit_decay": 10, "fit_min": {"1obj": 0.45, "2obj": 0.75}, "min_cells": 6,
            "max_attempts": 1000, "blending": "poisson"}' \
        --seed 1 --style reinhard --statistics results/demo/styles/statistics.npz --jpeg-quality 95 \
        --max-unreadable-share 0.01 --tar out/1obj-000000.tar --manifest out/1obj-000000.parquet
"""

from __future__ import annotations

from segswap.pairs.objects import ObjectTable
from segswap.pairs.recipe import KINDS, PairSettings
from segswap.pairs.render import Photos
from segswap.pairs.shards import shard_indices, write_shard
from segswap.pairs.style import add_style_arguments, open_style
from segswap.program import argument_parser, run, settings, whole_number


def main() -> None:
    """Parse the arguments and render."""
    parser = argument_parser(__doc__)
    parser.add_argument("--table", required=True, help="object table")
    parser.add_argument("--images", nargs="+", required=True, help="folder of the photos, or the folder of each source")
    parser.add_argument("--kind", required=True, choices=KINDS, help="one or two objects in each pair")
    parser.add_argument("--shard", type=whole_number(0), required=True, help="number of the shard, from 0")
    parser.add_argument("--pairs", type=whole_number(1), required=True, help="pairs in the whole set")
    parser.add_argument("--pairs-per-shard", type=whole_number(1), required=True, help="in every shard but the last")
    parser.add_argument("--settings", type=settings(PairSettings), required=True, help="as JSON")
    parser.add_argument("--seed", type=int, required=True, help="of every random choice")
    add_style_arguments(parser)
    parser.add_argument("--jpeg-quality", type=whole_number(1), required=True, help="from 1 to 100")
    parser.add_argument(
        "--max-unreadable-share", type=float, required=True, help="of photos that do not open; above it the job fails"
    )
    parser.add_argument("--tar", required=True, help="shard to write")
    parser.add_argument("--manifest", required=True, help="its manifest (Parquet)")
    args = parser.parse_args()
    write_shard(
        Photos(ObjectTable.read(args.table), *args.images),
        args.settings,
        *open_style(args.style, args.statistics, args.vgg, args.decoder, args.device, args.precision),
        (args.seed, args.kind),
        shard_indices(args.pairs, args.pairs_per_shard, args.shard),
        args.tar,
        args.manifest,
        args.jpeg_quality,
        args.max_unreadable_share,
    )


if __name__ == "__main__":
    run(main)
