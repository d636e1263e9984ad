"""Brueghel: one-shot retrieval and detection of details in paintings (specification of the benchmarks).

Labels: ``{category: [{"query": [image, [x1, y1, x2, y2]], "gt": [[image, [x1, y1, x2, y2]], ...]}, ...]}``,
boxes in pixels of the images.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from segswap.benchmarks.metrics import average_precision, detection_average_precision, mean_over_categories
from segswap.errors import InputError
from segswap.files import read_json
from segswap.images import read_image
from segswap.listing import list_images
from segswap.lists import Pictures
from segswap.matching.crops import Box, QueryCrop, box_inside, cut_query, query_crop
from segswap.progress import progress

BOX_MAKERS = {"direct": "detection_map", "cosine": "detection_map_cosine"}
"""How boxes are found (columns ``<maker>_box`` of the predictions), and what their mean precision is called."""


@dataclasses.dataclass(frozen=True)
class BrueghelSettings:
    """Sizes of the protocol.

    Attributes:
        image_size: side, in pixels, that database images and query crops are squashed to.
        query_size: length of a query box's longer side in its crop, in pixels.
        box_scales: longer sides of the database image, in cells, at which the cosine box is searched.
        thresholds: IoU thresholds of the detection; the first is the one of the headline number.
        protocol: ``corrected`` or ``published``.
    """

    image_size: int
    query_size: int
    box_scales: Sequence[int]
    thresholds: Sequence[float]
    protocol: str


@dataclasses.dataclass(frozen=True)
class Query:
    """A detail to search for: its category, image, box, and the truths (image, box)."""

    category: str
    image: str
    box: Box
    truths: tuple[tuple[str, Box], ...]


@dataclasses.dataclass(frozen=True)
class Brueghel:
    """The data set: folder, names of the database images in order, queries."""

    folder: Path
    images: tuple[str, ...]
    queries: tuple[Query, ...]


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where the data set is, for ``load``."""
    parser.add_argument("--images", required=True, help="folder of the paintings")
    parser.add_argument("--labels", required=True, help="queries and where their details are, by category (JSON)")


def load(images: str | os.PathLike, labels: str | os.PathLike) -> Brueghel:
    """Read the labels and check them against the image folder.

    Raises:
        InputError: when the labels are not of the format or name images that are not in the folder; the
            message says when the two belong to different editions.
    """
    folder = Path(images)
    names = tuple(path.name for path in list_images(folder, utf8_names=True))
    content, known = read_json(labels), set(names)
    queries, pictures = [], Pictures(folder)

    def file(name: str) -> str:
        return name if name in known else pictures.find(name) or name

    try:
        for category, entries in content.items():
            for entry in entries:
                image, box = entry["query"]
                truths = tuple((file(name), _checked_box(truth)) for name, truth in entry["gt"])
                queries.append(Query(str(category), file(image), _checked_box(box), truths))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{labels}: not Brueghel labels ({error}); expected "
            '{category: [{"query": [image, box], "gt": [[image, box], ...]}]}'
        ) from None
    empty = next((query for query in queries if not query.truths), None)
    if not queries or empty:
        raise InputError(f"{labels}: {'no query' if not queries else f'query {empty.image} {empty.box} has no truth'}")
    _check_names(folder, names, labels, queries)
    return Brueghel(folder, names, tuple(queries))


def _checked_box(box: Sequence[float]) -> Box:
    x1, y1, x2, y2 = (float(v) for v in box)
    if not (x1 < x2 and y1 < y2):
        raise ValueError(f"box {box} has no area")
    return x1, y1, x2, y2


def _check_names(folder: Path, names: Sequence[str], labels: str | os.PathLike, queries: Sequence[Query]) -> None:
    known = set(names)
    wanted = {query.image for query in queries} | {name for query in queries for name, _ in query.truths}
    missing = sorted(wanted - known)
    if not missing:
        return
    hint = "get the missing pictures"
    suffixes = {Path(name).suffix.lower() for name in known}, {Path(name).suffix.lower() for name in wanted}
    if suffixes[0] != suffixes[1]:
        hint = (
            "labels and pictures seem to be of different editions: ArtMiner's has .jpg names and full frames, "
            "SegSwap's .png names and frames cropped by 20 pixels with boxes to match; use both of one edition"
        )
    raise InputError(
        f"{labels}: names {len(missing)} of {len(wanted)} images that are not in {folder} "
        f"(first: {missing[0]!r}); {hint}"
    )


def plan_query(dataset: Brueghel, query: Query, size: tuple[int, int], settings: BrueghelSettings) -> QueryCrop:
    """Return the preprocessing of a query whose image has ``size`` = (width, height).

    A box that is a little beyond its image is cut at the border.

    Raises:
        InputError: when more than half of the box lies beyond the image.
    """
    box = box_inside(query.box, size)
    if box is None:
        raise InputError(
            f"{dataset.folder / query.image}: {size[0]} x {size[1]} pixels, but the box {list(query.box)} of a query "
            f"of {query.category!r} lies beyond it; labels and pictures are not of one edition"
        )
    return query_crop(size, box, settings)


def read_query(dataset: Brueghel, query: Query, settings: BrueghelSettings) -> np.ndarray:
    """Return a query's crop, RGB uint8 of side ``image_size``."""
    image = read_image(dataset.folder / query.image)
    plan = plan_query(dataset, query, (image.shape[1], image.shape[0]), settings)
    return cut_query(image, plan, settings.image_size)


def query_names(dataset: Brueghel) -> list[str]:
    """Return the names of the queries in their feature store."""
    return [f"query {number}: {query.image} {list(query.box)}" for number, query in enumerate(dataset.queries)]


def image_loaders(dataset: Brueghel) -> list[Callable[[], np.ndarray]]:
    """Return readers of the database images, in order."""
    return [lambda path=dataset.folder / name: read_image(path) for name in dataset.images]


def query_loaders(dataset: Brueghel, settings: BrueghelSettings) -> list[Callable[[], np.ndarray]]:
    """Return readers of the query crops, in order."""
    return [lambda query=query: read_query(dataset, query, settings) for query in dataset.queries]


def rankings(dataset: Brueghel, table: pa.Table) -> list[list[dict]]:
    """Return each query's rows of a prediction, best score first (ties by image name)."""
    ranked: list[list[dict]] = [[] for _ in dataset.queries]
    for batch in progress(table.to_batches(max_chunksize=10_000), "predictions (batches)"):
        for row in batch.to_pylist():
            ranked[row["query"]].append(row)
    return [sorted(rows, key=lambda row: (-row["score"], row["image"])) for rows in ranked]


def validation_queries(dataset: Brueghel, labels: str | os.PathLike | None) -> list[int]:
    """Return the queries, by their positions, that a model may be selected by: few, and a part of the test's.

    Args:
        dataset: all queries.
        labels: a labels file that names them (published: two of each category); None: the first two of each.

    Raises:
        InputError: when a query of the file is not one of the data set.
    """
    if labels is None:
        seen: Counter[str] = Counter()
        chosen = []
        for position, query in enumerate(dataset.queries):
            seen[query.category] += 1
            if seen[query.category] <= 2:
                chosen.append(position)
        return chosen
    known = {(query.image, query.box): position for position, query in enumerate(dataset.queries)}
    wanted = [(query.image, query.box) for query in load(dataset.folder, labels).queries]
    strange = next((query for query in wanted if query not in known), None)
    if strange:
        raise InputError(
            f"{labels}: query {strange[0]} {list(strange[1])} is none of the benchmark's; give a part of its labels"
        )
    return [known[query] for query in wanted]


def _retrievals(
    dataset: Brueghel, table: pa.Table
) -> Iterator[tuple[dict[str, Any], list[dict], list[tuple[str, Box]]]]:
    """Yield the retrieval of each query that has a truth besides its own image, its rows, and those truths."""
    for number, (query, rows) in enumerate(zip(dataset.queries, rankings(dataset, table), strict=True)):
        truths = [(name, box) for name, box in query.truths if name != query.image]
        named = {name for name, _ in truths}
        if truths:
            retrieval = {
                "query": number,
                "category": query.category,
                "image": query.image,
                "box": list(query.box),
                "truths": len(truths),
                "average_precision": average_precision([row["image"] in named for row in rows], len(named)),
            }
            yield retrieval, rows, truths


def retrieval_results(dataset: Brueghel, table: pa.Table) -> list[dict[str, Any]]:
    """Return the retrieval of every query that has a truth besides its own image, which takes no part.

    Returns:
        ``query`` (its position), ``category``, ``image``, ``box``, ``truths`` (their number), ``average_precision``.
    """
    return [retrieval for retrieval, _, _ in _retrievals(dataset, table)]


def query_results(dataset: Brueghel, table: pa.Table, settings: BrueghelSettings) -> list[dict[str, Any]]:
    """Return the results of every query: its retrieval, and its detection with both kinds of boxes.

    Returns:
        as ``retrieval_results``, and the average precision of the detection at each IoU threshold:
        ``direct@<threshold>``, ``cosine@<threshold>``.
    """
    results = []
    for result, rows, truths in _retrievals(dataset, table):
        for maker in BOX_MAKERS:
            found = [(row["image"], row[f"{maker}_box"]) for row in rows]
            for threshold in settings.thresholds:
                result[f"{maker}@{threshold:g}"] = detection_average_precision(found, truths, threshold)
        results.append(result)
    return results


def by_category(results: Sequence[dict[str, Any]], name: str = "average_precision") -> dict[str, list[float]]:
    """Return a number of all queries, by their category."""
    values: dict[str, list[float]] = defaultdict(list)
    for result in results:
        values[result["category"]].append(result[name])
    return values


def summarise(results: Sequence[dict[str, Any]], settings: BrueghelSettings) -> dict[str, float]:
    """Return the numbers of a benchmark from the results of its queries.

    ``map`` (retrieval), ``detection_map`` (direct boxes) and ``detection_map_cosine`` (cosine boxes) at the
    first IoU threshold, both again per threshold, ``map_<category>`` and the number of ``queries``.
    """
    retrieval = by_category(results)
    numbers = {"map": mean_over_categories(retrieval)}
    for maker, name in BOX_MAKERS.items():
        for threshold in settings.thresholds:
            numbers[f"{name}@{threshold:g}"] = mean_over_categories(by_category(results, f"{maker}@{threshold:g}"))
        numbers[name] = numbers[f"{name}@{settings.thresholds[0]:g}"]
    numbers |= {f"map_{category}": float(np.mean(values)) for category, values in retrieval.items()}
    numbers["queries"] = len(results)
    return numbers
