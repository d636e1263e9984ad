"""Name the shared results (pairs, features, backbones) that no run uses any more, and delete them where asked to.

Runs with equal settings share such files. A changed configuration makes new ones, and what it used before stays: this
finds it. Delete a run's folder first to give up what only that run uses.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from segswap.errors import InputError
from segswap.sharing import unused_parts

EXAMPLES = """
segswap unused
segswap unused results --delete
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("results", nargs="?", default="results", type=Path, help="default: %(default)s")
    parser.add_argument("--delete", action="store_true", help="delete them; no workflow may be running")


def execute(args: argparse.Namespace) -> None:
    """Print each folder with its size; delete it where asked to."""
    if not args.results.is_dir():
        raise InputError(f"{args.results}: no such folder; expected the folder of all runs")
    total = 0
    for folder in unused_parts(args.results):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        total += size
        if args.delete:
            shutil.rmtree(folder)
        print(f"{folder}: {size / 1e6:.1f} MB{', deleted' if args.delete else ''}", flush=True)
    print(f"{total / 1e6:.1f} MB {'deleted' if args.delete else 'that no run uses'}")
