"""Match two pictures, or each pair of a list: scores, and pictures of what they share.

Pictures may have any sizes; they are matched with their aspect kept. Into the output folder go ``match.json`` (scores,
masks and correspondences in pixels of the pictures) and ``match.jpg``; with --gif an animation, and with --page a page
(``index.html``) that lay the shared part of one picture over the other. Of a list (--pairs: CSV with columns a,b, paths
relative to it, and perhaps name) each pair has such a folder, and ``matches.csv`` says what was found; a list that was
cut off goes on where it was.

The score is a sum over cells: it grows with the size at which pictures are matched, so only scores of like sizes
compare. The shares (of each picture's cells, those that the other one repeats) do not depend on the size.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segswap.commands.arguments import add_checkpoint_argument
from segswap.device import add_device_argument, pick_device
from segswap.errors import InputError
from segswap.files import make_folder, sha256, write_text
from segswap.geometry import STRIDE
from segswap.images import UnreadableImage
from segswap.listing import IMAGE_SUFFIXES
from segswap.matching.match import AS_GIVEN, Match, default_sides, match_features, turns
from segswap.matching.pair_list import ListedPair, read_pairs
from segswap.matching.recent import RecentPictures
from segswap.models.checkpoint import load_checkpoint
from segswap.progress import progress
from segswap.report.match_files import (
    ANIMATION,
    JSON,
    MatchSettings,
    PictureFile,
    match_numbers,
    pair_key,
    read_done,
    write_match,
)
from segswap.report.match_page import describe_match

EXAMPLES = """\
segswap match a.jpg b.jpg -o out
segswap match a.jpg b.jpg --checkpoint results/demo/checkpoints/stage2.pt --sides 160 240 -o out
segswap match a.jpg b.jpg --checkpoint model.pt --rotations --flips --gif --page -o out
segswap match --pairs pairs.csv --checkpoint model.pt -o out
"""

TABLE = "matches.csv"

_NUMBERS = ("score", "score_first", "score_second", "share_first", "share_second", "rotation", "mirrored")


class _Matcher:
    """A model and settings: matches pairs of files."""

    def __init__(self, checkpoint: str, device: str, settings: Callable[[dict[str, Any]], MatchSettings]) -> None:
        """Read the model; ``settings`` are made of what the checkpoint says about itself."""
        self._model, about = load_checkpoint(checkpoint, pick_device(device))
        self.settings = settings(about)
        self._key = self._model.key
        self._said = {"checkpoint": checkpoint, "key": self._key}
        self._recent = RecentPictures(self._model, self.settings.sides, say=_say)

    def match(self, a: PictureFile, b: PictureFile) -> Match:
        """Match two pictures; raises ``UnreadableImage``."""
        x = self._recent.features(a.digest, a.path)[AS_GIVEN]
        return match_features(self._model.matcher, x, self._recent.features(b.digest, b.path, self.settings.turns))

    def key(self, a: PictureFile, b: PictureFile) -> str:
        """Return the key of the pair's files."""
        return pair_key(a, b, self._key, self.settings)

    def write(self, folder: Path, a: PictureFile, b: PictureFile, match: Match) -> dict[str, Any]:
        """Write the files of a pair; say what could not be; return the content of ``match.json``."""
        pictures = self._recent.image(a.digest, a.path), self._recent.image(b.digest, b.path)
        content, alignment = write_match(folder, (a, b), pictures, match, self.settings, self._said, self.key(a, b))
        if self.settings.gif and alignment.matrix is None:
            _say(f"{folder / ANIMATION}: not written, {alignment}")
        return content


def _say(words: str) -> None:
    """Print words for people, apart from the numbers for programs and from a progress bar."""
    tqdm.write(words, file=sys.stderr)


def _picture_file(path: Path) -> PictureFile:
    try:
        return PictureFile(path, sha256(path))
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be opened ({error.strerror}); expected a picture") from None


def match_pair(matcher: _Matcher, first: Path, second: Path, output: Path | None) -> dict[str, Any]:
    """Match two pictures, write what was found to ``output`` if given; return the numbers and the paths written."""
    a, b = _picture_file(first), _picture_file(second)
    match = matcher.match(a, b)
    _say(describe_match(match))
    found = match_numbers(match)
    if output is None:
        return found
    content = matcher.write(output, a, b, match)
    return found | {"written": [str(output / name) for name in (*content["files"], JSON)]}


def match_list(matcher: _Matcher, pairs: list[ListedPair], output: Path) -> dict[str, Any]:
    """Match the pairs of a list, a folder each; pairs of an earlier run with the same content are left as they are.

    A pair with a picture that does not open is passed over. ``matches.csv`` is written at the end.

    Returns:
        how many pairs were matched, already there, and not readable, and the path of the table.
    """
    counts = {"matched": 0, "already_there": 0, "unreadable": 0}
    rows = []
    for pair in progress(pairs, "pairs"):
        row: dict[str, Any] = {"name": pair.name, "a": pair.a, "b": pair.b}
        try:
            a, b = _picture_file(pair.a), _picture_file(pair.b)
            folder = output / pair.name
            content = read_done(folder, matcher.key(a, b))
            way = "already_there" if content else "matched"
            content = content or matcher.write(folder, a, b, matcher.match(a, b))
            counts[way] += 1
            rows.append(row | {name: content[name] for name in _NUMBERS})
        except UnreadableImage as error:
            _say(f"line {pair.line}: {error}")
            rows.append(row | {"problem": str(error)})
            counts["unreadable"] += 1
    write_text(output / TABLE, _csv(rows))
    return counts | {"written": [str(output / TABLE)]}


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["name", "a", "b", *_NUMBERS, "problem"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("first", nargs="?", type=Path, help="picture")
    parser.add_argument("second", nargs="?", type=Path, help="picture")
    parser.add_argument("--pairs", type=Path, metavar="CSV", help="list of pairs, in place of two pictures")
    add_checkpoint_argument(parser)
    parser.add_argument(
        "--sides",
        type=int,
        nargs=2,
        metavar=("SHORTEST", "LONGEST"),
        help="of a picture's longer side in pixels when it is matched (default: from the side of the pairs that the "
        "model was trained on to 7/3 of it: 480 1120 for the published one; demo: 160 240)",
    )
    parser.add_argument("--rotations", action="store_true", help="try the second picture rotated by quarters, too")
    parser.add_argument("--flips", action="store_true", help="try the second picture mirrored, too")
    parser.add_argument("--lines", type=int, default=24, help="largest number of lines drawn (default: %(default)s)")
    parser.add_argument("--gif", action="store_true", help="write an animation that fades between both pictures")
    parser.add_argument("--page", action="store_true", help="write a page with a slider that does")
    add_device_argument(parser)
    parser.add_argument("-o", "--output", type=Path, help="folder to write (default: none, only scores are printed)")


def _check(args: argparse.Namespace) -> None:
    """Raise ``InputError`` for arguments that cannot be meant."""
    if args.pairs is None and args.second is None:
        raise InputError("segswap match: expected two pictures, or --pairs with a list of them; see --help")
    if args.pairs is not None and args.first is not None:
        raise InputError(f"--pairs {args.pairs}: stands in place of two pictures, found {args.first} as well; drop one")
    if args.sides is not None:
        shortest, longest = args.sides
        if not 0 < shortest <= longest or shortest % STRIDE or longest % STRIDE:
            raise InputError(
                f"--sides {shortest} {longest}: expected two positive multiples of {STRIDE}, the smaller first"
            )
    if args.lines < 0:
        raise InputError(f"--lines {args.lines}: expected 0 or more")
    _check_output(args)


def _check_output(args: argparse.Namespace) -> None:
    output = args.output
    if output is None:
        for flag, given in (("--pairs", args.pairs), ("--gif", args.gif), ("--page", args.page)):
            if given:
                raise InputError(f"{flag}: needs a folder to write to; add -o")
    elif output.suffix.lower() in IMAGE_SUFFIXES or (output.exists() and not output.is_dir()):
        raise InputError(f"-o {output}: expected a folder, in which match.jpg and the other files are written")


def _settings(args: argparse.Namespace, about: dict[str, Any]) -> MatchSettings:
    sides = tuple(args.sides) if args.sides else default_sides(about)
    return MatchSettings(sides, turns(args.rotations, args.flips), args.lines, args.gif, args.page)


def _read_list(path: Path, output: Path) -> list[ListedPair]:
    """Read a list of pairs; neither it nor a pair's folder may stand where the table is written."""
    pairs = read_pairs(path)
    taken = next((pair for pair in pairs if pair.name.casefold() == TABLE), None)
    if taken:
        raise InputError(f"{path}: line {taken.line}: name {taken.name!r}: is that of the table; choose another")
    if (output / TABLE).exists() and path.samefile(output / TABLE):
        raise InputError(f"--pairs {path}: would be written over by the table; choose another --output")
    return pairs


def execute(args: argparse.Namespace) -> None:
    """Print what was found as JSON; leave with status 1 where a picture of a list did not open."""
    _check(args)
    pairs = _read_list(args.pairs, args.output) if args.pairs else None
    if args.output is not None:
        make_folder(args.output, "--output")
    matcher = _Matcher(args.checkpoint, args.device, lambda about: _settings(args, about))
    if pairs is None:
        found = match_pair(matcher, args.first, args.second, args.output)
    else:
        found = match_list(matcher, pairs, args.output)
    print(json.dumps(found, indent=1))
    if found.get("unreadable"):
        sys.exit(1)
