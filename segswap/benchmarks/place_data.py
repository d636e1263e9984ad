"""Data sets of place recognition in their published layouts: lists, positions, a first ranking's file."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from segswap.benchmarks.metrics import positives_within
from segswap.errors import InputError
from segswap.files import NOT_ARRAYS, read_json
from segswap.images import IMAGE_SUFFIXES, read_image
from segswap.program import settings

ORIGINS = {
    "tokyo247": "Tokyo 24/7 must be requested from its authors (Torii et al., CVPR 2015, project page of 24/7 place "
    "recognition)",
    "own_places": "It is your own: two folders of pictures, and positions or a ground truth",
    "pitts30k": "Pitts30k must be requested from its authors (Arandjelovic et al., NetVLAD, CVPR 2016, project page)",
}
"""How to get the data sets that cannot be downloaded freely."""


# What scipy raises for other files and damaged ones (NotImplementedError for version 7.3 of the format, which is HDF5),
# and what reading the fields of another structure leads to.
_NO_STRUCTURE = (*NOT_ARRAYS, MatReadError, NotImplementedError, IndexError, AttributeError, TypeError)


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
    """

    queries: str | None
    database: str | None
    positions: str | None = None
    query_positions: str | None = None
    database_positions: str | None = None
    first_ranking: str | None = None
    structure: str | None = None
    ground_truth: str | None = None

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
        queries, database: names of the images.
        query_positions, database_positions: UTM positions in metres, (Q, 2) and (D, 2); None where the positives are
            listed.
        first_ranking: its file, or None.
        listed_positives: of each query the database images of its place; None where positions say it.
    """

    folder: Path
    queries: tuple[str, ...]
    database: tuple[str, ...]
    query_positions: np.ndarray | None
    database_positions: np.ndarray | None
    first_ranking: Path | None
    listed_positives: tuple[np.ndarray, ...] | None = None

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
            f"under the names of the lists, and these files:\n{wanted}\nor take {benchmark} out of benchmarks.run. "
            "The other benchmarks do not need it"
        )


def load(folder: str | os.PathLike, files: PlaceFiles) -> Places:
    """Read lists and positions, and check them against each other and the folder.

    Raises:
        InputError: naming the file and the first name or count that does not agree.
    """
    folder = Path(folder)
    positions, positives = (None, None), None
    if files.structure:
        (queries, database), positions = _read_structure(folder / files.structure)
    else:
        if not (files.queries and files.database):
            raise InputError(f"{folder}: no lists given; set queries and database, or structure")
        queries, database = (_listed(folder, file) for file in (files.queries, files.database))
        if files.ground_truth:
            positives = _read_ground_truth(folder / files.ground_truth, len(queries), len(database))
        else:
            positions = _positions(folder, files, queries, database)
    for what, names, found in zip(("queries", "database"), (queries, database), positions, strict=True):
        if found is not None and found.shape != (len(names), 2):
            raise InputError(
                f"{folder}: {len(names)} names of {what} and positions of shape {found.shape}, expected "
                f"({len(names)}, 2); list and positions are not of one edition"
            )
        if found is not None:
            _check_order(folder, what, names, found)
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"{folder}: {len(missing)} of {len(names)} {what} images are missing (first: {missing[0]!r}); put the "
                "pictures there under the names of the list"
            )
    ranking = folder / files.first_ranking if files.first_ranking else None
    return Places(folder, queries, database, *positions, ranking, positives)


def _read_ground_truth(path: Path, n_queries: int, n_database: int) -> tuple[np.ndarray, ...]:
    """Read ``{query number: [database numbers]}``; a query that is not in it has no positive."""
    content = read_json(path)
    try:
        listed = {int(query): np.array(sorted(items), int).reshape(-1) for query, items in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: expected {{query number: [database numbers]}} ({error})") from None
    strange = [
        query
        for query, items in listed.items()
        if not 0 <= query < n_queries or ((items < 0) | (items >= n_database)).any()
    ]
    if strange:
        raise InputError(
            f"{path}: entry {strange[0]} is beyond the {n_queries} queries and {n_database} database images; lists and "
            "ground truth are not of one edition"
        )
    return tuple(listed.get(query, np.zeros(0, int)) for query in range(n_queries))


def _listed(folder: Path, file: str) -> tuple[str, ...]:
    """Return the names of a list, or of the pictures of a folder and its subfolders, relative to the data set's."""
    path = folder / file
    if not path.is_dir():
        return read_names(path)
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise InputError(f"{path}: holds no picture; put the pictures there, or name a list of them")
    return tuple(str(p.relative_to(folder)) for p in found)


def _positions(
    folder: Path, files: PlaceFiles, queries: Sequence[str], database: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    if files.positions:
        with _open_arrays(folder / files.positions) as arrays:
            if not {"utmQ", "utmDb"} <= set(arrays):
                raise InputError(f"{folder / files.positions}: holds {sorted(arrays)}, expected utmQ and utmDb")
            return np.asarray(arrays["utmQ"], float), np.asarray(arrays["utmDb"], float)
    if files.query_positions and files.database_positions:
        given = (read_array(folder / name) for name in (files.query_positions, files.database_positions))
        query_positions, database_positions = (np.asarray(each, float) for each in given)
        return query_positions, database_positions
    in_names = [[position_in_name(name) for name in names] for names in (queries, database)]
    if any(position is None for positions in in_names for position in positions):
        raise InputError(
            f"{folder}: no positions given; set positions, query_positions and database_positions, or structure, or "
            "give pictures whose names hold them (@<east>@<north>@...)"
        )
    return np.array(in_names[0], float), np.array(in_names[1], float)


def position_in_name(name: str) -> tuple[float, float] | None:
    """Return the UTM east and north in metres that a file name holds, ``@<east>@<north>@...``; None without them."""
    parts = Path(name).name.split("@")
    try:
        return float(parts[1]), float(parts[2])
    except (IndexError, ValueError):
        return None


def _check_order(folder: Path, what: str, names: Sequence[str], positions: np.ndarray) -> None:
    """Compare positions with those in the names, where names hold them: a list in another order is noticed.

    Raises:
        InputError: naming the first that differs by more than a metre.
    """
    for name, position in zip(names, positions, strict=True):
        own = position_in_name(name)
        if own is not None and np.abs(position - own).max() > 1:
            raise InputError(
                f"{folder}: {what} image {name!r} is at {own} by its name and at {tuple(position.tolist())} by the "
                "positions; lists and positions are in different orders"
            )


def _read_structure(path: Path) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], tuple[np.ndarray, np.ndarray]]:
    """Read a ``dbStruct``: fields by their places, as the original files have them.

    0 whichSet, 1 dbImageFns, 2 utmDb (2, D), 3 qImageFns, 4 utmQ (2, Q), 5 numImages, 6 numQueries, 7 posDistThr, ...
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the data set's .mat structure")
    try:
        # No objects of Python can come out of this format.
        fields = loadmat(path)["dbStruct"].item()
        database, queries = (tuple(str(cell.item()) for cell in fields[n].ravel()) for n in (1, 3))
        positions = np.asarray(fields[4], float).T, np.asarray(fields[2], float).T
        counts = int(fields[6].item()), int(fields[5].item())
    except _NO_STRUCTURE as error:
        raise InputError(f"{path}: not readable as a dbStruct of MATLAB, up to version 7 ({error})") from None
    if counts != (len(queries), len(database)):
        raise InputError(
            f"{path}: says {counts[0]} queries and {counts[1]} images, lists {len(queries)} and {len(database)}"
        )
    return (_distinct(path, queries), _distinct(path, database)), positions


def read_names(path: Path) -> tuple[str, ...]:
    """Read a list of image names, ``.npy`` or text; a leading ``./`` is dropped.

    Raises:
        InputError: when the list is missing, empty or names an image twice.
    """
    if path.suffix == ".npy":
        names = [str(name) for name in read_array(path).ravel()]
    else:
        try:
            names = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a readable list of image names ({error})") from None
    names = [name.removeprefix("./") for name in names]
    if not names:
        raise InputError(f"{path}: an empty list of image names")
    return _distinct(path, names)


def _distinct(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a list.

    Raises:
        InputError: when one of them is there twice.
    """
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise InputError(f"{path}: names {twice!r} more than once; the names of a list must be distinct")
    return tuple(names)


def read_array(path: Path) -> np.ndarray:
    """Read a plain numpy file.

    Raises:
        InputError: when it is missing, damaged, or would execute something.
    """
    try:
        return np.load(path, allow_pickle=False)
    except NOT_ARRAYS as error:
        raise InputError(f"{path}: not readable as a plain numpy array ({error})") from None


def _open_arrays(path: Path) -> np.lib.npyio.NpzFile:
    content = read_array(path)
    if not isinstance(content, np.lib.npyio.NpzFile):
        raise InputError(f"{path}: a single array, expected an .npz with utmQ and utmDb")
    return content


def image_loaders(folder: Path, names: Sequence[str]) -> list[Callable[[], np.ndarray]]:
    """Return readers of images, in order."""
    return [lambda path=folder / name: read_image(path) for name in names]
