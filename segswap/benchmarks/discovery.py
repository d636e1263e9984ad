"""Discovery in a collection of paintings: do the labelled details come out as clusters, without any query?

The labels are Brueghel's. Our own measure, as the paper shows pictures only: for each category the best cluster's F1
over its regions, a region being right when its box has an IoU above a threshold with a labelled one of the same
image (specification of discovery).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from segswap.benchmarks.brueghel import Box, Brueghel
from segswap.benchmarks.metrics import box_iou
from segswap.drawing import (
    ORANGE,
    caption,
    contact_sheet,
    draw_boxes,
    fit,
    right_or_wrong,
    text_picture,
    write_picture,
)
from segswap.images import read_image

Regions = set[tuple[str, Box]]
_SIDE = 112


def labelled_details(dataset: Brueghel) -> dict[str, Regions]:
    """Return the labelled boxes (image, box) of each category: its queries and their truths."""
    found: dict[str, Regions] = defaultdict(set)
    for query in dataset.queries:
        found[query.category] |= {(query.image, query.box), *query.truths}
    return dict(found)


def right_regions(regions: Sequence[tuple[str, Box]], details: Regions, threshold: float) -> list[bool]:
    """Return which of a cluster's regions, heaviest first, are labelled boxes of a category.

    A labelled box counts once: a region takes the one of largest IoU among those of its image that are left.
    """
    left = set(details)
    right = []
    for image, box in regions:
        overlaps = {detail: box_iou(box, detail[1]) for detail in left if detail[0] == image}
        best = max(overlaps, key=lambda detail: (overlaps[detail], detail), default=None)
        right.append(best is not None and overlaps[best] > threshold)
        if right[-1]:
            left.remove(best)
    return right


def f1(regions: Sequence[tuple[str, Box]], details: Regions, threshold: float) -> float:
    """Return the harmonic mean of precision and recall of a cluster's regions as boxes of a category."""
    return 2 * sum(right_regions(regions, details, threshold)) / (len(regions) + len(details))


def clusters_of(regions: pa.Table) -> dict[int, list[tuple[str, Box]]]:
    """Return the regions (image, box) of each cluster, by its number."""
    found: dict[int, list[tuple[str, Box]]] = defaultdict(list)
    for row in regions.select(["cluster", "image", "box"]).to_pylist():
        found[row["cluster"]].append((row["image"], tuple(row["box"])))
    return dict(found)


def best_clusters(dataset: Brueghel, regions: pa.Table, threshold: float) -> dict[str, tuple[float, int | None]]:
    """Return each category's largest F1 and the cluster that has it; 0 and None where there is no cluster."""
    clusters = clusters_of(regions)
    best = {}
    for category, details in sorted(labelled_details(dataset).items()):
        scores = {number: f1(own, details, threshold) for number, own in clusters.items()}
        number = max(scores, key=lambda n: (scores[n], -n), default=None)
        best[category] = (0.0, None) if number is None else (scores[number], number)
    return best


def metrics(dataset: Brueghel, regions: pa.Table, threshold: float) -> dict[str, float]:
    """Return the numbers of clusters against the labels.

    ``f1``: the mean over categories of the best cluster's F1, also ``f1_<category>``; counts of clusters, regions and
    images.

    Args:
        regions: a table of ``segswap.discovery.clusters.REGIONS``.
        threshold: of the IoU.
    """
    best = best_clusters(dataset, regions, threshold)
    return {
        "f1": float(np.mean([value for value, _ in best.values()])),
        **{f"f1_{category}": value for category, (value, _) in best.items()},
        "clusters": len(clusters_of(regions)),
        "regions": len(regions),
        "images": len(dataset.images),
    }


def draw_discovery(
    dataset: Brueghel, regions: pa.Table, threshold: float, output: str | os.PathLike, count: int = 8
) -> None:
    """Draw a row for each category: a labelled box, and regions of its best cluster, framed right or wrong.

    Args:
        output: the sheet, a JPEG or PNG by its suffix.
        count: regions of a cluster, heaviest first.
    """
    clusters, details = clusters_of(regions), labelled_details(dataset)
    rows = []
    for category, (value, number) in best_clusters(dataset, regions, threshold).items():
        row = [caption(_cut(dataset, *min(details[category])), category)]
        own = clusters.get(number, [])
        for detail, right in zip(own, right_regions(own, details[category], threshold), strict=True):
            row.append(right_or_wrong(_cut(dataset, *detail), right))
        if number is None:
            row.append(text_picture("no cluster", _SIDE))
        else:
            row[1] = caption(row[1], f"cluster {number}, F1 {value:.2f}")
        rows.append(row[: 1 + count])
    write_picture(output, contact_sheet(rows))


def _cut(dataset: Brueghel, image: str, box: Box) -> np.ndarray:
    """Return a box with a margin around it, outlined, in a square of ``_SIDE`` pixels."""
    picture = read_image(dataset.folder / image)
    height, width = picture.shape[:2]
    half = 0.6 * max(box[2] - box[0], box[3] - box[1])
    side = max(1, min(round(2 * half), height, width))
    left = int(np.clip(round((box[0] + box[2]) / 2 - side / 2), 0, width - side))
    top = int(np.clip(round((box[1] + box[3]) / 2 - side / 2), 0, height - side))
    shown = (np.array(box) - [left, top, left, top]) * _SIDE / side
    return draw_boxes(fit(picture[top : top + side, left : left + side], _SIDE), [shown], ORANGE)
