"""Render one shard of pairs."""

from __future__ import annotations

import argparse

from segswap.pairs.objects import ObjectTable
from segswap.pairs.recipe import KINDS, PairSettings
from segswap.pairs.render import Photos
from segswap.pairs.shards import shard_indices, write_shard
from segswap.pairs.style import add_style_arguments, open_style
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="object table")
    parser.add_argument("--images", required=True, help="folder of the photos")
    parser.add_argument("--kind", required=True, choices=KINDS)
    parser.add_argument("--shard", type=int, required=True, help="number of the shard, from 0")
    parser.add_argument("--pairs", type=int, required=True, help="pairs in the whole set")
    parser.add_argument("--pairs-per-shard", type=int, required=True)
    parser.add_argument("--settings", type=settings(PairSettings), required=True, help="as JSON")
    parser.add_argument("--seed", type=int, required=True)
    add_style_arguments(parser)
    parser.add_argument("--jpeg-quality", type=int, required=True)
    parser.add_argument("--max-unreadable-share", type=float, required=True)
    parser.add_argument("--tar", required=True, help="shard to write")
    parser.add_argument("--manifest", required=True, help="its manifest (Parquet)")
    args = parser.parse_args()
    write_shard(
        Photos(ObjectTable.read(args.table), args.images),
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
