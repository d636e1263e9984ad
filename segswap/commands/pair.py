"""Render one pair of a configured set: its pictures, labels and recipe, and a sheet that shows them.

The pair is made from its address (seed, kind, index); the shard that holds it need not exist. The files have the same
bytes as the members of the sample in the shard.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from segswap.config import read_config
from segswap.drawing import contact_sheet, write_picture
from segswap.errors import InputError
from segswap.files import write_bytes
from segswap.pairs.pair_set import Sample
from segswap.pairs.recipe import KINDS
from segswap.pairs.shards import provenance, sample_members
from segswap.pairs.single import open_source
from segswap.report.galleries import describe_sample, sample_pictures

EXAMPLES = """
segswap pair --kind 2obj --index 1234 -o out
segswap pair --kind 1obj --index 0 --split heldout --config config/demo-long.yaml -o out
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--kind", required=True, choices=KINDS)
    parser.add_argument(
        "--index", required=True, type=int, help="number of the pair, from 0; also beyond the set's end"
    )
    parser.add_argument("--split", default="train", choices=("train", "heldout"), help="default: %(default)s")
    parser.add_argument("--config", default="config/config.yaml", help="the configuration (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="torch device, for AdaIN (default: %(default)s)")
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder for the files")


def execute(args: argparse.Namespace) -> None:
    """Write the members of the sample and the sheet; print the recipe in words."""
    if args.index < 0:
        raise InputError(f"--index {args.index}: expected 0 or more")
    source = open_source(read_config(args.config), args.split, args.device)
    styled = source.make(args.kind, args.index)
    key = styled.pair.recipe.key
    for name, data in sample_members(styled, source.jpeg_quality).items():
        write_bytes(args.output / f"{key}.{name}", data)
    sample = Sample(key, styled.pictures, styled.pair.geometry.labels, provenance(styled))
    write_picture(args.output / f"{key}.png", contact_sheet([list(sample_pictures(sample, 256).values())]))
    print("\n".join(f"{title}: {words}" for title, words in describe_sample(sample).items()))
    print(f"written: {args.output / key}.*")
