"""Arguments of the commands that search a folder. Other commands start sooner without what these import."""

from __future__ import annotations

import argparse
from pathlib import Path

from segswap.commands.arguments import check_side
from segswap.matching.match import turns
from segswap.models.segswap import SegSwap
from segswap.search.index import Index, open_index
from segswap.search.search import SearchSettings
from segswap.search.windows import QUERY_SIDE


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what decides how a folder is indexed and searched, beside the folder itself, for ``search_settings``."""
    parser.add_argument("--subfolders", action="store_true", help="look into the subfolders of all folders, too")
    parser.add_argument(
        "--store",
        type=Path,
        help="folder that keeps the index, and that of --negatives (default: in the user's cache)",
    )
    parser.add_argument(
        "--shortlist",
        type=int,
        default=50,
        help="places that are listed, the best ones; 0: of all pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--matched",
        type=int,
        default=8,
        help="of these, how many the matcher looks at; more take longer; 0: none (default: %(default)s)",
    )
    parser.add_argument(
        "--side",
        type=int,
        default=QUERY_SIDE,
        help="side in pixels of a square as large as the query when the matcher looks at it; larger gives finer masks "
        "and takes longer (default: %(default)s)",
    )
    parser.add_argument("--rotations", action="store_true", help="try the query rotated by quarters, too")
    parser.add_argument("--flips", action="store_true", help="try the query mirrored, too")
    parser.add_argument(
        "--negatives",
        type=Path,
        help="folder of pictures without the query, by which scores are judged (default: a sample of the folder)",
    )
    parser.add_argument(
        "--false-positives",
        type=float,
        default=0.01,
        help="share of pictures without the query that may come out above the threshold (default: %(default)s)",
    )


def open_negatives(args: argparse.Namespace, model: SegSwap, index: Index) -> Index:
    """Open the index of --negatives, to be compared with ``index``; see ``segswap.search.index.open_index``."""
    cache = args.store and args.store / "negatives"
    return open_index(args.negatives, model, subfolders=args.subfolders, projection=index.projection, cache=cache)


def search_settings(args: argparse.Namespace) -> SearchSettings:
    """Return the settings of ``add_search_arguments``.

    Raises:
        InputError: for a value that cannot be meant.
    """
    check_side(args.side)
    return SearchSettings(
        shortlist=args.shortlist,
        matched=args.matched,
        side=args.side,
        turns=turns(args.rotations, args.flips),
        false_positives=args.false_positives,
    ).checked()
