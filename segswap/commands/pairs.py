"""Check a pair set: ``segswap pairs verify MANIFEST``."""

from __future__ import annotations

import argparse
import sys

from segswap.pairs.verify import verify_set

EXAMPLES = """
segswap pairs verify results/demo/pairs/train/2obj
segswap pairs verify results/demo/pairs/*/*/manifest.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    verify = actions.add_parser("verify", help="look at every byte of pair sets and name what is wrong")
    verify.add_argument("manifests", nargs="+", metavar="MANIFEST", help="manifest.json of a set, or its folder")


def execute(args: argparse.Namespace) -> None:
    """Print what is wrong with each set, a line each; leave with status 1 when there is anything."""
    found = 0
    for manifest in args.manifests:
        count = 0
        for problem in verify_set(manifest):
            print(problem, flush=True)
            count += 1
        print(f"{manifest}: {'nothing wrong' if count == 0 else f'{count} problem(s)'}", flush=True)
        found += count
    if found:
        sys.exit(1)
