"""Data sets of place recognition in their published layouts: lists, positions, a first ranking's file."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segswap.benchmarks.matlab import read_structure
from segswap.benchmarks.metrics import positives_within
from segswap.benchmarks.positions import one_frame, position_in_name
from segswap.errors import InputError
from segswap.files import NOT_ARRAYS, read_array, read_json
from segswap.images import read_image
from segswap.listing import list_images
from segswap.lists import Pictures, distinct, read_names, shown
from segswap.program import settings

ORIGINS = {
    "tokyo247": "Tokyo 24/7 must be requested from its authors (Torii et al., CVPR 2015, project page of 24/7 place "
    "recognition)",
    "own_places": "It is your own: two folders of pictures, and positions or a ground truth",
    "pitts30k": "Pitts30k must be requested from its authors (Arandjelovic et al., NetVLAD, CVPR 2016, project page)",
}
"""How to get the data sets that cannot be downloaded freely."""


PUBLISHED_FOLDERS = {
    "queries": ("queries_real", "queries", "query", "247query_subset_v2", "247query_v3"),
    "database": (".", "images"),
}
"""Where the pictures of a ``dbStruct`` lie, inside of a data set's folder.

The archives of Pitts30k and Tokyo 24/7 unpack so, and the code of NetVLAD wants them so (``localPaths.m.setup``).
"""


@dataclasses.dataclass(frozen=True)
class PlaceFiles:
    """Where a data set's parts lie, relative to its folder.

    Attributes:
        queries, database: lists of image names, ``.npy`` or text with one name a line; or folders: their pictures.
        positions: ``.npz`` with ``utmQ`` (Q, 2), ``utmDb`` (D, 2) and ``posDistThr`` (Patch-NetVLAD), or None.
        query_positions, database_positions: ``.npy`` (Q, 2) and (D, 2) instead. Without any of them positions are read
            from the names: ``@<east>@<north>@...``, as VPR-datasets-downloader writes them.
        first_ranking: ``.npy`` score matrix (Q, D; floating, higher is better) or index matrix (Q, K; whole
            numbers), text with a line ``query, image`` per candidate, best first (Patch-NetVLAD); or None: the
            ranking is computed.
        structure: the original ``.mat`` file (a ``dbStruct``), which holds lists and positions in place of all of the
            above; or None.
        ground_truth: JSON ``{query number: [database numbers]}`` of the pictures of one place (VPR-Bench), in place of
            positions; or None.
        query_folder, database_folder: that the names of a list or a structure are relative to. Without them that is
            the data set's folder, and for a structure that of ``PUBLISHED_FOLDERS`` which has most of the pictures.
        coordinates: what positions are: ``metres``, or degrees, ``latitude_longitude`` or ``longitude_latitude``, which
            are projected. None: metres, but what looks like degrees is refused.
    """

    queries: str | None
    database: str | None
    positions: str | None = None
    query_positions: str | None = None
    database_positions: str | None = None
    first_ranking: str | None = None
    structure: str | None = None
    ground_truth: str | None = None
    query_folder: str | None = None
    database_folder: str | None = None
    coordinates: str | None = None

    def read(self) -> dict[str, str]:
        """Return the files that ``load`` reads, by attribute: of those given one source of lists, one of positives."""
        lists = ("queries", "database")
        if self.structure:
            names = ("structure",)
        elif self.ground_truth:
            names = (*lists, "ground_truth")
        elif self.positions:
            names = (*lists, "positions")
        else:
            names = (*lists, "query_positions", "database_positions")
        return {name: file for name in (*names, "first_ranking") if (file := getattr(self, name))}


@dataclasses.dataclass(frozen=True)
class Places:
    """The data set.

    Attributes:
        folder: that the names are relative to.
        queries, database: names of the images, as they are on the disk.
        query_positions, database_positions: in metres, (Q, 2) and (D, 2), of one zone of UTM; (Q, 3) and (D, 3), from
            the middle of the Earth, where they are given in degrees or in several zones; None where the positives are
            listed.
        first_ranking: its file, or None.
        listed_positives: of each query the database images of its place; None where positions say it.
        query_folder, database_folder: that names in other lists of the data set may be relative to.
        notes: what was done to names and positions, for people.
    """

    folder: Path
    queries: tuple[str, ...]
    database: tuple[str, ...]
    query_positions: np.ndarray | None
    database_positions: np.ndarray | None
    first_ranking: Path | None
    listed_positives: tuple[np.ndarray, ...] | None = None
    query_folder: str = "."
    database_folder: str = "."
    notes: tuple[str, ...] = ()

    def positives(self, metres: float) -> list[np.ndarray]:
        """Return the database images of each query's place: as listed, else those within a distance."""
        if self.listed_positives is not None:
            return list(self.listed_positives)
        return positives_within(self.query_positions, self.database_positions, metres)

    def metres(self, query: int, item: int) -> float | None:
        """Return how far a database image is from a query; None without positions."""
        if self.query_positions is None:
            return None
        return float(np.linalg.norm(self.query_positions[query] - self.database_positions[item]))


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where a data set is, for ``load``."""
    parser.add_argument("--folder", required=True, help="of the data set")
    parser.add_argument("--files", type=settings(PlaceFiles), required=True, help="its lists and positions, as JSON")


def require(benchmark: str, folder: str | os.PathLike, files: PlaceFiles) -> None:
    """Check that a data set's folder and listed files are there.

    Raises:
        InputError: saying how the data set is got, which files go where, and how to leave the benchmark out.
    """
    folder = Path(folder)
    absent = {name: folder / file for name, file in files.read().items() if not (folder / file).exists()}
    if absent:
        wanted = "\n".join(f"  {path}  (benchmarks.{benchmark}.files.{name})" for name, path in absent.items())
        raise InputError(
            f"the data of benchmark {benchmark} is not there. {ORIGINS[benchmark]}. Put into {folder} the pictures, "
            f"under the names of the lists, and these files:\n{wanted}\nor the data as its authors give it out, and "
            f"name their .mat file in benchmarks.{benchmark}.files.structure; or take {benchmark} out of "
            "benchmarks.run. The other benchmarks do not need it"
        )


def load(folder: str | os.PathLike, files: PlaceFiles) -> Places:
    """Read lists and positions, and check them against each other and the folder.

    Raises:
        InputError: naming the file and the first name or count that does not agree, a position that is not in metres,
            or a picture that is query and database image.
    """
    folder, notes = Path(folder), []
    positions, positives = None, None
    if files.structure:
        listed, positions = _read_structure(folder / files.structure)
    else:
        if not (files.queries and files.database):
            raise InputError(f"{folder}: no lists given; set queries and database, or structure")
        listed = _listed(folder, files.queries), _listed(folder, files.database)
        if files.ground_truth:
            positives = _read_ground_truth(folder / files.ground_truth, *map(len, listed))
        else:
            positions = _positions(folder, files, *listed)
    if positions is not None:
        positions, note = _in_metres(folder, listed, positions, files.coordinates)
        notes += [note] if note else []
    found = []
    for side, names in zip(("queries", "database"), listed, strict=True):
        inner = _inner_folders(folder, files, side)
        found.append(_find(folder, side, names, inner))
        notes += _renamed(side, names, found[-1])
    _refuse_common(folder, *(side.names for side in found))
    ranking = folder / files.first_ranking if files.first_ranking else None
    queries, database = found
    return Places(
        folder,
        queries.names,
        database.names,
        *(positions or (None, None)),
        first_ranking=ranking,
        listed_positives=positives,
        query_folder=queries.folder,
        database_folder=database.folder,
        notes=tuple(notes),
    )


def _listed(folder: Path, file: str) -> tuple[str, ...]:
    """Return the names of a list, or of the pictures of a folder and its subfolders, relative to the data set's."""
    path = folder / file
    if not path.is_dir():
        return read_names(path)
    return tuple(str(picture.relative_to(folder)) for picture in list_images(path, subfolders=True, utf8_names=True))


# Pictures


@dataclasses.dataclass(frozen=True)
class _Side:
    """The pictures of queries or of the database: the inner folder of the listed names, names in the data set's."""

    folder: str
    names: tuple[str, ...]


def _inner_folders(folder: Path, files: PlaceFiles, side: str) -> tuple[str, ...]:
    """Return the inner folders that may hold the pictures of a side."""
    given, listed = {
        "queries": (files.query_folder, files.queries),
        "database": (files.database_folder, files.database),
    }[side]
    if files.structure:
        return (given,) if given else (*PUBLISHED_FOLDERS[side], ".")
    is_list = listed is not None and not (folder / listed).is_dir()
    return (given,) if given and is_list else (".",)


def _find(folder: Path, side: str, names: Sequence[str], inner: Sequence[str]) -> _Side:
    """Find the pictures of a side, in the inner folder that has most of them.

    Raises:
        InputError: when pictures are missing, or one has two names in the list.
    """
    best: tuple[int, str, list[str | None]] = -1, inner[0], [None] * len(names)
    for place in inner:
        if (folder / place).is_dir():
            pictures = Pictures(folder / place)
            found = [pictures.find(name) or pictures.find_stem(name) for name in names]
            best = max(best, (len(names) - found.count(None), place, found), key=lambda each: each[0])
        if best[0] == len(names):
            break
    _, place, found = best
    there = [_inside(place, name) for name in found if name is not None]
    if len(there) < len(names):
        first = names[found.index(None)]
        raise InputError(
            f"{folder / place}: {len(names) - len(there)} of {len(names)} {side} images are missing (first: "
            f"{shown(first)}); put the pictures there under the names of the list, or name the folder that holds them "
            f"in files.{'query' if side == 'queries' else side}_folder"
        )
    return _Side(place, distinct(folder, there))


def _inside(folder: str, name: str) -> str:
    return name if folder == "." else os.path.join(folder, name)


def _renamed(side: str, names: Sequence[str], found: _Side) -> list[str]:
    """Return in words which pictures are not there under the names of the list, if any are."""
    given = zip(names, found.names, strict=True)
    others = [(name, own) for name, own in given if _inside(found.folder, name) != own]
    said = [f"{side} images are in {found.folder}"] if found.folder != "." else []
    if others:
        name, own = others[0]
        said.append(
            f"{len(others)} of {len(names)} {side} images have another suffix or spelling on the disk than in the "
            f"list; they are taken (first: {shown(own)} for {shown(name)})"
        )
    return said


def _refuse_common(folder: Path, queries: Sequence[str], database: Sequence[str]) -> None:
    """Raise ``InputError`` where one file is a query and a database image."""
    known = {_file(os.path.join(folder, name)): name for name in queries}
    common = [(known[file], name) for name in database if (file := _file(os.path.join(folder, name))) in known]
    if common:
        raise InputError(
            f"{folder}: {len(common)} pictures are query and database image at once (first: query "
            f"{shown(common[0][0])} and database image {shown(common[0][1])} are one file); set files.query_folder and "
            "files.database_folder to the folders that hold the pictures of each side"
        )


def _file(path: str) -> tuple[int, int]:
    """Return what tells a file from others, whatever its name and the links to it."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


# Positions and positives


_Positions = tuple[np.ndarray, np.ndarray]
"""Of queries, (Q, 2), and of the database, (D, 2)."""


def _positions(folder: Path, files: PlaceFiles, queries: Sequence[str], database: Sequence[str]) -> _Positions:
    """Read positions from their files, else from the names."""
    if files.positions:
        return _read_archive(folder / files.positions, len(queries), len(database))
    if files.query_positions and files.database_positions:
        given = (folder / name for name in (files.query_positions, files.database_positions))
        query_positions, database_positions = (_numbers(path, read_array(path)) for path in given)
        return query_positions, database_positions
    without = [name for name in (*queries, *database) if position_in_name(name) is None]
    if without:
        raise InputError(
            f"{folder}: no positions given; set positions, query_positions and database_positions, or structure, or "
            f"give pictures whose names hold them (@<east>@<north>@...): {len(without)} of "
            f"{len(queries) + len(database)} names do not (first: {shown(without[0])})"
        )
    in_queries, in_database = (np.array([position_in_name(name) for name in names]) for names in (queries, database))
    return in_queries, in_database


def _numbers(path: Path, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "iuf":
        raise InputError(f"{path}: positions of type {array.dtype}; expected numbers")
    return np.asarray(array, float)


def _read_archive(path: Path, n_queries: int, n_database: int) -> _Positions:
    """Read ``utmQ`` and ``utmDb`` of an ``.npz``.

    Raises:
        InputError: when the file is missing, damaged, lacks one, or holds more than positions of so many pictures.
    """
    wanted = {"utmQ": n_queries, "utmDb": n_database}
    try:
        content = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: a single array, expected an .npz with utmQ and utmDb")
        with content:
            if not set(wanted) <= set(content):
                raise InputError(f"{path}: holds {sorted(content)}, expected utmQ and utmDb")
            sizes = {entry.filename: entry.file_size for entry in content.zip.infolist()}
            # A few packed bytes can claim to be any number.
            if max(sizes[f"{name}.npy"] for name in wanted) > 1 << 30:
                raise InputError(f"{path}: positions of more than a gigabyte; expected utmQ and utmDb")
            utm_queries, utm_database = (_numbers(path, content[name]) for name in wanted)
    except NOT_ARRAYS as error:
        raise InputError(f"{path}: not readable as an .npz with utmQ and utmDb ({error})") from None
    return utm_queries, utm_database


def _in_metres(
    folder: Path, names: Sequence[Sequence[str]], positions: _Positions, coordinates: str | None
) -> tuple[_Positions, str | None]:
    """Check the positions of queries and database, and bring them into one frame (``one_frame``).

    Raises:
        InputError: naming what is not a position in metres, or not that of its picture.
    """
    for side, own, found in zip(("queries", "database"), names, positions, strict=True):
        if found.shape != (len(own), 2):
            raise InputError(
                f"{folder}: {len(own)} names of {side} and positions of shape {found.shape}, expected "
                f"({len(own)}, 2); list and positions are not of one edition"
            )
        on_earth = np.abs(found).max(1, initial=0) < 1e8  # false where it is no number
        if not on_earth.all():
            first = int(np.argmin(on_earth))
            raise InputError(
                f"{folder}: {side} image {shown(own[first])} is at {tuple(found[first].tolist())}; expected a position "
                "of two numbers. Give its position, or take the picture out of list and positions"
            )
    try:
        joined, note = one_frame((*names[0], *names[1]), np.concatenate(positions), coordinates)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    if coordinates in (None, "metres"):
        for side, own, found in zip(("queries", "database"), names, positions, strict=True):
            _check_order(folder, side, own, found)
    return (joined[: len(names[0])], joined[len(names[0]) :]), note


def _check_order(folder: Path, side: str, names: Sequence[str], positions: np.ndarray) -> None:
    """Compare positions with those in the names, where names hold them: a list in another order is noticed.

    Raises:
        InputError: naming the first that differs by more than a metre.
    """
    for name, position in zip(names, positions, strict=True):
        own = position_in_name(name)
        if own is not None and np.abs(position - own).max() > 1:
            raise InputError(
                f"{folder}: {side} image {name!r} is at {own} by its name and at {tuple(position.tolist())} by the "
                "positions; lists and positions are in different orders"
            )


def _read_structure(path: Path) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], _Positions]:
    """Read the lists and positions of a ``dbStruct``: fields by their names, or by their places where those differ.

    0 whichSet, 1 dbImageFns, 2 utmDb (2, D), 3 qImageFns, 4 utmQ (2, Q), 5 numImages, 6 numQueries, 7 posDistThr, ...
    """
    fields = read_structure(path, "dbStruct")
    names = ("dbImageFns", "utmDb", "qImageFns", "utmQ", "numImages", "numQueries")
    in_order = [fields[name] for name in names] if set(names) <= set(fields) else [*fields.values()][1:7]
    try:
        images, utm_database, questions, utm_queries, n_images, n_queries = in_order
        lists = _names_of_cells(questions), _names_of_cells(images)
        positions = utm_queries.T, utm_database.T
        counts = int(n_queries.item()), int(n_images.item())
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: not readable as a dbStruct of MATLAB: its fields are {', '.join(fields)} ({error}); expected "
            f"{', '.join(names)}"
        ) from None
    if counts != tuple(map(len, lists)):
        raise InputError(
            f"{path}: says {counts[0]} queries and {counts[1]} images, lists {len(lists[0])} and {len(lists[1])}"
        )
    if not all(counts):
        raise InputError(f"{path}: {counts[0]} queries and {counts[1]} images; expected at least one of each")
    return (distinct(path, lists[0]), distinct(path, lists[1])), positions


def _names_of_cells(cells: list[Any]) -> list[str]:
    """Return the names in a cell array, which the original files keep in cells of their own."""
    names = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in cells]
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise TypeError("names of images that are no text")
    return [name.strip().removeprefix("./") for name in names]


def _read_ground_truth(path: Path, n_queries: int, n_database: int) -> tuple[np.ndarray, ...]:
    """Read ``{query number: [database numbers]}``; a query that is not in it has no positive."""
    if path.suffix == ".npy":
        raise InputError(
            f"{path}: a numpy file; expected JSON, {{query number: [database numbers]}}. Arrays of objects, as "
            "VPR-Bench keeps them, execute code when they are read. Where you trust the file, write the JSON in "
            "Python: json.dump({int(q): [int(d) for d in found] for q, found in numpy.load(..., allow_pickle=True)})"
        )
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected {{query number: [database numbers]}}, found a {type(content).__name__}")
    listed: dict[int, list[int]] = {}
    for query, items in content.items():
        # Truth values are whole numbers to Python, and digits of any script are digits.
        if (
            not re.fullmatch("-?[0-9]{1,18}", query)
            or not isinstance(items, list)
            or not all(type(n) is int for n in items)
        ):
            raise InputError(
                f"{path}: expected {{query number: [database numbers]}}, found {query[:40]!r}: {items!r:.80}"
            )
        listed.setdefault(int(query), []).extend(items)
    for query, items in listed.items():
        if not 0 <= query < n_queries or not all(0 <= n < n_database for n in items):
            raise InputError(
                f"{path}: entry {query} is beyond the {n_queries} queries and {n_database} database images; lists and "
                "ground truth are not of one edition"
            )
    return tuple(np.array(sorted(set(listed.get(query, ()))), int) for query in range(n_queries))


def image_loaders(folder: Path, names: Sequence[str]) -> list[Callable[[], np.ndarray]]:
    """Return readers of images, in order."""
    return [lambda path=folder / name: read_image(path) for name in names]
