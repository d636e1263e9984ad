"""Tokyo 24/7 and Pitts30k: place recognition, a first ranking re-ranked by the pair score.

A database image is a positive of a query when it was taken within ``metres`` of it (UTM). Recall@N is the
share of queries with a positive among the first N (specification of the benchmarks).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from segswap.benchmarks.metrics import first_of_each, positives_within, recall_at
from segswap.errors import InputError
from segswap.files import NOT_ARRAYS, read_arrays, write_arrays
from segswap.images import read_image

COUNTS = (1, 5, 10, 20, 100)
"""N of the reported recalls."""

ORIGINS = {
    "tokyo247": "Tokyo 24/7 must be requested from its authors (Torii et al., CVPR 2015, project page of 24/7 place "
    "recognition)",
    "pitts30k": "Pitts30k must be requested from its authors (Arandjelovic et al., NetVLAD, CVPR 2016, project page)",
}
"""How to get the data sets that cannot be downloaded freely."""

SUPPRESSIONS = ("after", "before", "candidates", "none")


@dataclasses.dataclass(frozen=True)
class PlaceFiles:
    """Where a data set's parts lie, relative to its folder.

    Attributes:
        queries, database: lists of image names, ``.npy`` or text with one name a line.
        positions: ``.npz`` with ``utmQ`` (Q, 2), ``utmDb`` (D, 2) and ``posDistThr`` (Patch-NetVLAD), or None.
        query_positions, database_positions: ``.npy`` (Q, 2) and (D, 2) instead.
        first_ranking: ``.npy`` score matrix (Q, D; floating, higher is better) or index matrix (Q, K; whole
            numbers), text with a line ``query, image`` per candidate, best first (Patch-NetVLAD); or None: the
            ranking is computed.
    """

    queries: str
    database: str
    positions: str | None = None
    query_positions: str | None = None
    database_positions: str | None = None
    first_ranking: str | None = None


@dataclasses.dataclass(frozen=True)
class PlaceSettings:
    """The protocol.

    Attributes:
        image_size: (width, height) in pixels that all images are squashed to.
        metres: largest distance of a positive, the bound included.
        candidates: images re-ranked per query.
        views_per_place: consecutive database images that show one place (Tokyo 24/7: 12); 1: no suppression.
        suppression: when only the best view of each place is kept: ``after`` re-ranking (the released code),
            ``before`` it (Patch-NetVLAD), ``candidates`` (the first views_per_place * candidates, then as before;
            original NetVLAD), or ``none``.
        pooling: global descriptor of a computed first ranking, ``gem`` or ``mean`` pooled features.
        protocol: ``corrected`` or ``published``.
    """

    image_size: tuple[int, int]
    metres: float
    candidates: int
    views_per_place: int
    suppression: str
    pooling: str
    protocol: str


@dataclasses.dataclass(frozen=True)
class Places:
    """The data set: folder, names, UTM positions in metres, and the first ranking's file."""

    folder: Path
    queries: tuple[str, ...]
    database: tuple[str, ...]
    query_positions: np.ndarray
    database_positions: np.ndarray
    first_ranking: Path | None


def require(benchmark: str, folder: str | os.PathLike, files: PlaceFiles) -> None:
    """Check that a data set's folder and listed files are there.

    Raises:
        InputError: saying how the data set is got, which files go where, and how to leave the benchmark out.
    """
    folder = Path(folder)
    listed = {name: folder / file for name, file in dataclasses.asdict(files).items() if file}
    absent = {name: path for name, path in listed.items() if not path.is_file()}
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
    queries, database = read_names(folder / files.queries), read_names(folder / files.database)
    if files.positions:
        with _open_arrays(folder / files.positions) as arrays:
            if not {"utmQ", "utmDb"} <= set(arrays):
                raise InputError(f"{folder / files.positions}: holds {sorted(arrays)}, expected utmQ and utmDb")
            positions = np.asarray(arrays["utmQ"], float), np.asarray(arrays["utmDb"], float)
    elif files.query_positions and files.database_positions:
        positions = tuple(
            np.asarray(_read_array(folder / name), float) for name in (files.query_positions, files.database_positions)
        )
    else:
        raise InputError(f"{folder}: no positions given; set positions, or query_positions and database_positions")
    for what, names, found in zip(("queries", "database"), (queries, database), positions, strict=True):
        if found.shape != (len(names), 2):
            raise InputError(
                f"{folder}: {len(names)} names of {what} and positions of shape {found.shape}, expected "
                f"({len(names)}, 2); list and positions are not of one edition"
            )
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"{folder}: {len(missing)} of {len(names)} {what} images are missing (first: {missing[0]!r}); put the "
                "pictures there under the names of the list"
            )
    ranking = folder / files.first_ranking if files.first_ranking else None
    return Places(folder, queries, database, *positions, ranking)


def read_names(path: Path) -> tuple[str, ...]:
    """Read a list of image names, ``.npy`` or text; a leading ``./`` is dropped.

    Raises:
        InputError: when the list is missing, empty or names an image twice.
    """
    if path.suffix == ".npy":
        names = [str(name) for name in _read_array(path).ravel()]
    else:
        try:
            names = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a readable list of image names ({error})") from None
    names = [name.removeprefix("./") for name in names]
    if not names:
        raise InputError(f"{path}: an empty list of image names")
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise InputError(f"{path}: names {twice!r} more than once; the names of a list must be distinct")
    return tuple(names)


def _read_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except NOT_ARRAYS as error:
        raise InputError(f"{path}: not readable as a plain numpy array ({error})") from None


def _open_arrays(path: Path) -> np.lib.npyio.NpzFile:
    content = _read_array(path)
    if not isinstance(content, np.lib.npyio.NpzFile):
        raise InputError(f"{path}: a single array, expected an .npz with utmQ and utmDb")
    return content


def image_loaders(folder: Path, names: Sequence[str]) -> list[Callable[[], np.ndarray]]:
    """Return readers of images, in order."""
    return [lambda path=folder / name: read_image(path) for name in names]


def ranking_depth(dataset: Places, settings: PlaceSettings) -> int:
    """Return how many items of a first ranking are enough for the candidates under every suppression."""
    return min(len(dataset.database), settings.candidates * settings.views_per_place)


def read_first_ranking(dataset: Places, settings: PlaceSettings) -> tuple[np.ndarray, str]:
    """Read the data set's own first ranking, int32 (Q, M) of database items, best first, and its origin in words.

    Raises:
        InputError: when the file does not agree with the lists.
    """
    path = dataset.first_ranking
    if path.suffix != ".npy":
        return _read_ranking_text(dataset, path), f"from {path.name}"
    matrix = _read_array(path)
    shape = len(dataset.queries), len(dataset.database)
    if np.issubdtype(matrix.dtype, np.floating):
        if matrix.shape != shape:
            raise InputError(f"{path}: scores of shape {matrix.shape}, the lists ask for {shape}")
        return ranked(matrix, ranking_depth(dataset, settings)), f"scores of {path.name}"
    if matrix.ndim != 2 or len(matrix) != shape[0] or matrix.min() < 0 or matrix.max() >= shape[1]:
        raise InputError(
            f"{path}: index matrix of shape {matrix.shape} with values {matrix.min()} to {matrix.max()}; expected "
            f"{shape[0]} rows of items 0 to {shape[1] - 1}"
        )
    return matrix.astype(np.int32), f"indices of {path.name}"


def ranked(scores: np.ndarray, depth: int) -> np.ndarray:
    """Rank scores (Q, D) into int32 (Q, depth) of items, best first, ties by position.

    A row at a time: a full matrix of indices would be large.
    """
    return np.stack([np.argsort(-row, kind="stable")[:depth] for row in scores]).astype(np.int32)


def _read_ranking_text(dataset: Places, path: Path) -> np.ndarray:
    places = {name: n for n, name in enumerate(dataset.database)}
    found: dict[str, list[int]] = {name: [] for name in dataset.queries}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if "," not in line:
            raise InputError(f"{path}, line {number}: {line!r}; expected 'query, image'")
        query, image = (part.strip().removeprefix("./") for part in line.rsplit(",", 1))
        if query not in found or image not in places:
            raise InputError(f"{path}, line {number}: {query!r}, {image!r} are not a query and a database image")
        found[query].append(places[image])
    lengths = {len(items) for items in found.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"{path}: {min(lengths)} to {max(lengths)} candidates per query, expected one number for all")
    return np.array(list(found.values()), np.int32)


def pick_candidates(ranking: np.ndarray, settings: PlaceSettings) -> list[np.ndarray]:
    """Return the database items that are re-ranked for each query, best first."""
    count = settings.candidates
    if settings.views_per_place == 1 or settings.suppression in ("after", "none"):
        return [row[:count] for row in ranking]
    deep = ranking if settings.suppression == "before" else ranking[:, : count * settings.views_per_place]
    groups = np.arange(int(ranking.max()) + 1) // settings.views_per_place
    return [first_of_each(row, groups)[:count] for row in deep]


def write_ranking(path: str | os.PathLike, ranking: np.ndarray, candidates: list[np.ndarray], origin: str) -> None:
    """Write the first ranking: ``ranking`` (Q, M), ``candidates`` (Q, K; -1 where fewer) and ``origin``, npz."""
    longest = max(map(len, candidates))
    padded = np.stack([np.pad(row, (0, longest - len(row)), constant_values=-1) for row in candidates])
    write_arrays(path, ranking=ranking, candidates=padded.astype(np.int32), origin=np.array(origin))


def read_ranking(path: str | os.PathLike) -> tuple[np.ndarray, list[np.ndarray], str]:
    """Read a file of ``write_ranking``.

    Raises:
        InputError: when the file is not of that form.
    """
    arrays = read_arrays(path, "a first ranking", ("ranking", "candidates", "origin"))
    candidates = [row[row >= 0] for row in arrays["candidates"]]
    return arrays["ranking"], candidates, str(arrays["origin"])


def candidate_names(dataset: Places, candidates: list[np.ndarray]) -> list[str]:
    """Return the names of all candidates, each once, in database order: the images to encode."""
    return [dataset.database[n] for n in np.unique(np.concatenate(candidates))]


def reranked(ranking: np.ndarray, candidates: list[np.ndarray], table: pa.Table) -> list[np.ndarray]:
    """Return each query's final ranking: its candidates by score (ties as before), then the rest as it was."""
    scores = {(row["query"], row["item"]): row["score"] for row in table.to_pylist()}
    final = []
    for query, (row, chosen) in enumerate(zip(ranking, candidates, strict=True)):
        order = np.argsort([-scores[query, int(item)] for item in chosen], kind="stable")
        final.append(np.concatenate([chosen[order], row[~np.isin(row, chosen)]]))
    return final


def suppressed(rankings: Sequence[np.ndarray], settings: PlaceSettings) -> list[np.ndarray]:
    """Keep the best view of each place, unless the protocol does not."""
    if settings.views_per_place == 1 or settings.suppression == "none":
        return list(rankings)
    groups = np.arange(max(int(row.max()) for row in rankings) + 1) // settings.views_per_place
    return [first_of_each(row, groups) for row in rankings]


def metrics(
    dataset: Places, ranking: np.ndarray, candidates: list[np.ndarray], table: pa.Table, settings: PlaceSettings
) -> dict[str, float]:
    """Return ``recall@N`` after re-ranking and ``first_recall@N`` before it, and counts.

    Raises:
        InputError: when the predictions lack a candidate.
    """
    expected = sum(map(len, candidates))
    if len(table) != expected:
        raise InputError(f"{dataset.folder}: {len(table)} predictions, {expected} candidates; run the chunks again")
    positives = positives_within(dataset.query_positions, dataset.database_positions, settings.metres)
    before = recall_at(suppressed(list(ranking), settings), positives, COUNTS)
    after = recall_at(suppressed(reranked(ranking, candidates, table), settings), positives, COUNTS)
    return {
        **{f"recall@{n}": value for n, value in after.items()},
        **{f"first_recall@{n}": value for n, value in before.items()},
        "queries": len(dataset.queries),
        "queries_without_positive": sum(not len(found) for found in positives),
        "database": len(dataset.database),
    }
