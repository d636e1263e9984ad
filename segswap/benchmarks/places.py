"""Tokyo 24/7 and Pitts30k: place recognition, a first ranking re-ranked by the pair score.

A database image is a positive of a query when it was taken within ``metres`` of it (UTM). Recall@N is the
share of queries with a positive among the first N (specification of the benchmarks).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from segswap.benchmarks.metrics import first_of_each, first_ranks, recall_at
from segswap.benchmarks.place_data import Places
from segswap.errors import InputError
from segswap.files import read_array, read_arrays, write_arrays
from segswap.lists import read_lines, shown, stem

COUNTS = (1, 5, 10, 20, 100)
"""N of the reported recalls."""

SUPPRESSIONS = ("after", "before", "candidates", "none")


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
    matrix = read_array(path)
    shape = len(dataset.queries), len(dataset.database)
    if np.issubdtype(matrix.dtype, np.floating):
        if matrix.shape != shape:
            raise InputError(f"{path}: scores of shape {matrix.shape}, the lists ask for {shape}")
        for query, row in enumerate(matrix):
            if np.isnan(row).any():
                raise InputError(f"{path}: row {query} holds scores that are no numbers (NaN); make the file again")
        return ranked(matrix, ranking_depth(dataset, settings)), f"scores of {path.name}"
    if not np.issubdtype(matrix.dtype, np.integer) or matrix.ndim != 2 or len(matrix) != shape[0] or not matrix.size:
        raise InputError(
            f"{path}: index matrix of shape {matrix.shape} and type {matrix.dtype}; expected {shape[0]} rows of items, "
            f"or scores of shape {shape}"
        )
    if matrix.min() < 0 or matrix.max() >= shape[1]:
        raise InputError(
            f"{path}: index matrix of shape {matrix.shape} with values {matrix.min()} to {matrix.max()}; expected "
            f"{shape[0]} rows of items 0 to {shape[1] - 1}"
        )
    _refuse_repeated(path, matrix)
    return matrix.astype(np.int32), f"indices of {path.name}"


def ranked(scores: np.ndarray, depth: int) -> np.ndarray:
    """Rank scores (Q, D) into int32 (Q, depth) of items, best first, ties by position.

    A row at a time: a full matrix of indices would be large.
    """
    return np.stack([np.argsort(-row, kind="stable")[:depth] for row in scores]).astype(np.int32)


def _refuse_repeated(path: Path, ranking: np.ndarray) -> None:
    ordered = np.sort(ranking, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if repeated.any():
        raise InputError(
            f"{path}: the ranking of query {int(np.argmax(repeated))} (from 0) holds an item twice; expected each once"
        )


def _read_ranking_text(dataset: Places, path: Path) -> np.ndarray:
    queries = _numbers_of(dataset.queries, dataset.query_folder)
    database = _numbers_of(dataset.database, dataset.database_folder)
    found: dict[int, list[int]] = {query: [] for query in range(len(dataset.queries))}
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        if "," not in line:
            raise InputError(f"{path}, line {number}: {shown(line)}; expected 'query, image'")
        # Names may hold commas: the one between them has a known name on either side.
        commas = [place for place, letter in enumerate(line) if letter == ","]
        pairs = [(queries.get(stem(line[:n])), database.get(stem(line[n + 1 :].lstrip()))) for n in commas]
        known = [(query, image) for query, image in pairs if query is not None and image is not None]
        if not known:
            query, image = (part.strip() for part in line.rsplit(",", 1))
            raise InputError(
                f"{path}, line {number}: {shown(query)}, {shown(image)} are not a query and a database image"
            )
        query, image = known[0]
        found[query].append(image)
    lengths = {len(items) for items in found.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"{path}: {min(lengths)} to {max(lengths)} candidates per query, expected one number for all")
    ranking = np.array(list(found.values()), np.int32)
    _refuse_repeated(path, ranking)
    return ranking


def _numbers_of(names: Sequence[str], folder: str) -> dict[str, int]:
    """Return the numbers of pictures by the stems of their names, in the data set's folder and in that of their side.

    Where two pictures have one stem neither is in it.
    """
    numbers: dict[str, int] = {}
    shared = set()
    for number, name in enumerate(names):
        for own in {stem(name), stem(name.removeprefix(f"{folder}/"))}:
            if numbers.setdefault(own, number) != number:
                shared.add(own)
    return {own: number for own, number in numbers.items() if own not in shared}


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
    """Return each query's final ranking: its candidates by score (ties as before), then the rest as it was.

    Raises:
        InputError: when the predictions lack a candidate.
    """
    expected = sum(map(len, candidates))
    if len(table) != expected:
        raise InputError(f"place recognition: {len(table)} predictions, {expected} candidates; run the chunks again")
    rows = table.select(["query", "item", "score"]).to_pylist()
    scores = {(row["query"], row["item"]): row["score"] for row in rows}
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


def query_results(
    dataset: Places, ranking: np.ndarray, candidates: list[np.ndarray], table: pa.Table, settings: PlaceSettings
) -> pa.Table:
    """Return the results of every query, a row each.

    Returns:
        ``query`` (image name), ``positives`` (database images of its place), ``first_rank`` and ``rank`` of the first
        of them before and after re-ranking, from 1 (null where none is in the ranking), ``best`` (image name) and how
        far away it is, ``metres``.

    Raises:
        InputError: when the predictions lack a candidate.
    """
    positives = dataset.positives(settings.metres)
    before = suppressed(list(ranking), settings)
    after = suppressed(reranked(ranking, candidates, table), settings)
    best = [int(row[0]) for row in after]
    columns = {
        "query": pa.array(dataset.queries),
        "positives": pa.array([len(found) for found in positives], pa.int32()),
        "first_rank": pa.array(first_ranks(before, positives), pa.int32()),
        "rank": pa.array(first_ranks(after, positives), pa.int32()),
        "best": pa.array([dataset.database[item] for item in best]),
        "metres": pa.array([dataset.metres(query, item) for query, item in enumerate(best)], pa.float64()),
    }
    return pa.table(columns)


def summarise(dataset: Places, results: pa.Table) -> dict[str, float]:
    """Return the numbers of a benchmark from the results of its queries.

    ``recall@N`` after re-ranking and ``first_recall@N`` before it, and counts.
    """
    after, before = (recall_at(results[name].to_pylist(), COUNTS) for name in ("rank", "first_rank"))
    return {
        **{f"recall@{n}": value for n, value in after.items()},
        **{f"first_recall@{n}": value for n, value in before.items()},
        "queries": len(dataset.queries),
        "queries_without_positive": results["positives"].to_pylist().count(0),
        "database": len(dataset.database),
    }
