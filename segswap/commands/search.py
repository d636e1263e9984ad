"""Search a folder of pictures for a detail, or for a whole picture.

The query is the picture, or the part of it in the --box. The search looks for it at its own size, anywhere in the
pictures; the matcher looks at the best places; each score is compared with those of pictures without the query. In the
output folder: ``index.html`` (the best places, where in them the query lies, and which are above the threshold),
``results.csv`` (all that are listed) and ``results.json``. With --queries every picture of a folder is a query. The
index of the folder is kept, and read again by the next search; only new or changed pictures are computed.

Pictures without the query are those of --negatives, or a sample of the folder itself. A sample that holds the query
makes the threshold stricter, never looser. A rate of 0.01 takes at least 99 pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from segswap.commands.arguments import add_checkpoint_argument
from segswap.commands.search_arguments import add_search_arguments, open_negatives, search_settings
from segswap.device import add_device_argument, pick_device
from segswap.errors import InputError
from segswap.files import make_folder
from segswap.images import UnreadableImage
from segswap.listing import list_images
from segswap.matching.match import default_sides, remark
from segswap.models.checkpoint import load_checkpoint
from segswap.progress import progress
from segswap.report.search_page import write_search
from segswap.search.index import open_index
from segswap.search.query import Query, parse_box, read_query
from segswap.search.search import search_all

EXAMPLES = """\
# Where else is what lies in this box?
segswap search --query picture.jpg --box 120,80,340,310 --folder pictures -o out
# Which of these pictures is this a detail of, perhaps turned or mirrored?
segswap search --query detail.jpg --folder pictures -o out --rotations --flips
# Which pictures of a database show the places of the queries?
segswap search --queries queries --database database -o out --shortlist 20
# A detail of the paintings of the demo world, with the model that was trained on the demo world:
segswap search --query "resources/demo/brueghel/images/A Woodland Road (Antwerp, no. 3.1).jpg" --box 14,25,96,74 \\
    --folder resources/demo/brueghel/images -o out --checkpoint results/demo/checkpoints/stage2.pt \\
    --false-positives 0.05
"""

_TOP = {True: 20, False: 5}
"""Hits shown of a single query, and of each of several."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--query", type=Path, help="picture to search for, or for what lies in its --box")
    asked.add_argument("--queries", type=Path, help="folder of pictures, each of them a query")
    parser.add_argument("--box", metavar="X1,Y1,X2,Y2", help="the detail in the query, in pixels (default: all of it)")
    parser.add_argument("--folder", "--database", required=True, type=Path, help="pictures to search")
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder to write")
    add_checkpoint_argument(parser)
    add_search_arguments(parser)
    parser.add_argument(
        "--negative-count",
        type=int,
        default=200,
        help="pictures without the query that scores are compared with (default: %(default)s)",
    )
    parser.add_argument("--keep-self", action="store_true", help="keep the query's own picture among the results")
    parser.add_argument("--top", type=int, help="results shown (default: 20, of several queries 5 each)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample of negatives (default: %(default)s)")
    add_device_argument(parser)


def _check(args: argparse.Namespace) -> None:
    """Raise ``InputError`` for a value that cannot be meant."""
    if args.box is not None and args.query is None:
        raise InputError("--box: belongs to one --query; pictures of --queries are searched whole")
    if args.top is not None and args.top < 1:
        raise InputError(f"--top {args.top}: expected 1 or more")
    for flag, folder in (("--folder", args.folder), ("--negatives", args.negatives), ("--queries", args.queries)):
        if folder is not None and not folder.is_dir():
            raise InputError(f"{flag} {folder}: no such folder; expected a folder of pictures")


def _queries(folder: Path, paths: list[Path]) -> Iterator[Query]:
    """Yield the pictures of a folder as queries; those that do not open are named and left out."""
    for path in paths:
        try:
            yield read_query(path, None, path.relative_to(folder).as_posix())
        except UnreadableImage as error:
            print(f"query left out: {error}", flush=True)


def _said(queries: Iterable[Query], sides: tuple[int, int]) -> Iterator[Query]:
    """Pass queries on; say of each whose size is against it."""
    for query in queries:
        if words := remark(query.detail.shape[1::-1], sides):
            print(f"query {query.name}: {words}", flush=True)
        yield query


def execute(args: argparse.Namespace) -> None:
    """Search, write what was found, and say it in a line."""
    _check(args)
    settings = dataclasses.replace(
        search_settings(args), negatives=args.negative_count, keep_self=args.keep_self, seed=args.seed
    ).checked()
    model, about = load_checkpoint(args.checkpoint, pick_device(args.device))
    several = args.query is None
    if several:
        paths = list_images(args.queries, args.subfolders)
        queries = _queries(args.queries, paths)
    else:
        queries = iter([read_query(args.query, None if args.box is None else parse_box(args.box))])
    queries = _said(queries, default_sides(about))
    make_folder(args.output, "--output")
    index = open_index(args.folder, model, args.store, args.subfolders)
    negatives = None
    if args.negatives is not None:
        negatives = open_negatives(args, model, index)
    facts = {
        "folder": f"{args.folder} ({len(index)} pictures)",
        "model": str(args.checkpoint),
        "tried": ", ".join(str(turn) for turn in settings.turns),
        "matched": f"the {settings.matched} best places, the query as large as {settings.side} x {settings.side} pixels"
        if settings.matched
        else "nothing: places are ordered by their likeness alone",
        "compared with": f"pictures of {args.negatives}"
        if negatives
        else "a sample of the folder itself: those that hold the query make the threshold stricter",
        "false-positive rate": f"{settings.false_positives:g}",
        **{f"left out: {name}": why for name, why in index.left_out.items()},
    }
    top = args.top or _TOP[not several]
    results = search_all(index, model, queries, settings, negatives, show_progress=not several)
    if several:
        results = progress(results, "queries", total=len(paths))
    found = write_search(results, index, args.output, top, facts)
    if not found.queries:
        raise InputError(f"--queries {args.queries}: none of its pictures opens; put readable ones there")
    print(f"{found.words()}: {args.output / 'index.html'}", flush=True)
