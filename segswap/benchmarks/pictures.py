"""Pictures of stored predictions: right in green, wrong in red, matchers side by side.

Every function takes the predictions by the matcher's display name (for example SegSwap, untrained, cosine) and
writes one sheet, a JPEG or PNG by its suffix. What is shown is spread evenly over the data: neither the best
nor the worst.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segswap.benchmarks import altered, brueghel, places
from segswap.benchmarks.altered import AlteredQuery
from segswap.benchmarks.brueghel import Brueghel, BrueghelSettings
from segswap.benchmarks.internet import read_truth
from segswap.benchmarks.metrics import box_iou, first_ranks
from segswap.benchmarks.pairs import STYLES
from segswap.benchmarks.place_data import Places
from segswap.benchmarks.places import PlaceSettings
from segswap.discovery.collection import Collection
from segswap.drawing import (
    GREEN,
    ORANGE,
    RED,
    WHITE,
    caption,
    contact_sheet,
    draw_boxes,
    draw_correspondences,
    draw_outline,
    evenly_spread,
    fit,
    fit_height,
    overlay_mask,
    right_or_wrong,
    spotlight,
    spread_cells,
    text_picture,
    write_picture,
)
from segswap.errors import InputError
from segswap.geometry import grid_shape
from segswap.images import read_image
from segswap.names import from_text
from segswap.pairs.pair_set import PairSet
from segswap.pairs.render import Labels
from segswap.training.pools import PoolImage, read_pool_image, read_pools

Tables = Mapping[str, pa.Table]
"""Predictions by the matcher's display name."""

_SIDE = 144
_LINES = 12


def _headings(titles: Sequence[str], widths: Sequence[int]) -> list[np.ndarray]:
    return [text_picture(title, width, 14) for title, width in zip(titles, widths, strict=True)]


def draw_pairs(sets: Sequence[PairSet], table_by_matcher: Tables, output: str | os.PathLike, count: int) -> None:
    """Write the sheet of ``pairs_sheet``."""
    write_picture(output, pairs_sheet(sets, table_by_matcher, count))


def pairs_sheet(sets: Sequence[PairSet], table_by_matcher: Tables, count: int) -> np.ndarray:
    """Draw held-out pairs: both pictures with the label's mask lit up, then each matcher's masks and correspondences.

    A line is green where the correspondence of a cell masked in the label lies at most one cell from the label,
    red elsewhere. A quarter of the rows are unrelated pairs, where nothing should light up.

    Args:
        sets: the held-out sets.
        table_by_matcher: predictions of ``pairs.predict``.
        count: rows.

    Returns:
        the sheet, RGB uint8 (H, W, 3).
    """
    by_kind = {pairs.kind: pairs for pairs in sets}
    keys = {name: _pair_keys(table) for name, table in table_by_matcher.items()}
    first = list(next(iter(keys.values())))
    positive, negative = ([key for key in first if (key[2] == key[3]) == related] for related in (True, False))
    n_negative = min(count // 4, len(negative))
    chosen = [positive[n] for n in evenly_spread(len(positive), count - n_negative)]
    chosen += [negative[n] for n in evenly_spread(len(negative), n_negative)]
    rows = [_headings(["source", "target", *table_by_matcher], [_SIDE, _SIDE] + [2 * _SIDE] * len(table_by_matcher))]
    for key in chosen:
        kind, style, position_a, position_b = key
        names = zip((position_a, position_b), STYLES[style], strict=True)
        a, b = (fit_height(by_kind[kind].picture(position, name), _SIDE) for position, name in names)
        labels = by_kind[kind].labels(position_a) if position_a == position_b else None
        row = [
            caption(a if labels is None else spotlight(a, labels.mask_a, GREEN), f"{kind}, {style}"),
            caption(b if labels is None else spotlight(b, labels.mask_b, GREEN), "unrelated" if not labels else ""),
        ]
        for name, table in table_by_matcher.items():
            if key not in keys[name]:
                raise InputError(f"predictions of {name} lack the pair {key}; run its prediction again")
            found = table.slice(keys[name][key], 1).to_pylist()[0]
            row.append(_matched(a, b, found, labels, by_kind[kind].labels(position_a).mask_a.shape))
        rows.append(row)
    return contact_sheet(rows)


def draw_hard_negatives(sets: list[PairSet], pools: str | os.PathLike, output: str | os.PathLike, count: int) -> None:
    """Draw the hardest negatives: the pairs of unrelated pictures that the model took for related most of all.

    Args:
        sets: one- and two-object training sets.
        pools: the scored pools of stage 2.
        output: the sheet; where no pool had hard pairs, it says so.
        count: pairs, from four epochs at most, spread over the training.
    """
    hardest: dict[int, list[tuple[float, PoolImage, PoolImage]]] = {}
    for epoch, *pair in read_pools(pools, count):
        hardest.setdefault(epoch, []).append(tuple(pair))
    shown = [sorted(hardest)[n] for n in evenly_spread(len(hardest), 4)]
    tiles = []
    for epoch in shown:
        for score, *images in hardest[epoch][: count // len(shown)]:
            sides = [fit_height(read_pool_image(sets, image), _SIDE) for image in images]
            tiles.append(caption(contact_sheet([sides], gap=4, margin=0), f"epoch {epoch}, score {score:.2f}"))
    if not tiles:
        tiles = [text_picture("no hard negatives were found", 3 * _SIDE)]
    write_picture(output, contact_sheet([tiles[n : n + 3] for n in range(0, len(tiles), 3)]))


def _pair_keys(table: pa.Table) -> dict[tuple[str, str, int, int], int]:
    """Return the row of each (kind, style, position of a, position of b)."""
    columns = (table.column(name).to_pylist() for name in ("kind", "style", "position_a", "position_b"))
    return {key: row for row, key in enumerate(zip(*columns, strict=True))}


def _matched(a: np.ndarray, b: np.ndarray, found: dict, labels: Labels | None, shape: tuple[int, int]) -> np.ndarray:
    """Draw one prediction: predicted masks as spotlights, lines from predicted cells, and its numbers."""
    maps_a, maps_b = (
        np.frombuffer(found[side], np.float16).astype(np.float32).reshape(3, *shape) for side in ("maps_a", "maps_b")
    )
    cells = spread_cells(maps_a[2], _LINES)
    right = np.zeros(shape, bool)
    text = f"score {found['score']:.2f}"
    if labels is not None:
        size = np.array(shape[::-1], float)[:, None, None]
        error = np.linalg.norm((maps_a[:2] - labels.corr_a) * size, axis=0)
        right = (error <= 1) & (labels.mask_a > 0.5)
        text = f"mask IoU {_mask_iou(labels, maps_a[2], maps_b[2]):.2f}, {text}"
    colours = [GREEN if right[row, column] else RED for row, column in cells]
    pictures = (spotlight(picture, maps[2]) for picture, maps in ((a, maps_a), (b, maps_b)))
    return caption(draw_correspondences(*pictures, cells, maps_a[:2], colours), text)


def _mask_iou(labels: Labels, mask_a: np.ndarray, mask_b: np.ndarray) -> float:
    truth = np.concatenate([labels.mask_a.ravel(), labels.mask_b.ravel()]) > 0.5
    found = np.concatenate([mask_a.ravel(), mask_b.ravel()]) > 0.5
    return float((truth & found).sum() / max(1, (truth | found).sum()))


def draw_brueghel(
    dataset: Brueghel,
    table_by_matcher: Tables,
    settings: BrueghelSettings,
    output: str | os.PathLike,
    box: str = "cosine_box",
    results: int = 6,
) -> None:
    """Draw one query of each category with each matcher's first results.

    A result's frame is green where the picture shows the detail, else red. The label's boxes are white; the found
    box is green where its IoU with one of them is above the first threshold, else red.

    Args:
        dataset: the data set. settings: of its protocol.
        table_by_matcher: predictions of ``brueghel.predict``.
        output: the sheet.
        box: the box shown, ``cosine_box`` or ``direct_box``.
        results: number of results.
    """
    ranked = {name: brueghel.rankings(dataset, table) for name, table in table_by_matcher.items()}
    shown: dict[str, int] = {}
    for number, query in enumerate(dataset.queries):
        if any(name != query.image for name, _ in query.truths):
            shown.setdefault(query.category, number)
    rows: list[list[np.ndarray | None]] = [[None, None, *_headings(map(str, range(1, results + 1)), [24] * results)]]
    for category, number in shown.items():
        query = dataset.queries[number]
        picture = _boxed(read_image(dataset.folder / query.image), [query.box], [])
        left: list[np.ndarray | None] = [caption(picture, category)]
        for name, rankings in ranked.items():
            found = [_result(dataset, query, row, box, settings.thresholds[0]) for row in rankings[number][:results]]
            rows.append([*left, text_picture(name, 80, 14, height=_SIDE), *found])
            left = [None]
    write_picture(output, contact_sheet(rows))


def _boxed(image: np.ndarray, truths: Sequence[Sequence[float]], found: Sequence[tuple]) -> np.ndarray:
    """Return a picture of moderate size with boxes given in its own pixels: labels, then (box, right)."""
    small = fit(image, _SIDE)
    scale = np.tile([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]], 2)
    small = draw_boxes(small, [np.array(box) * scale for box in truths], WHITE, 1)
    for box, right in found:
        small = draw_boxes(small, [np.array(box) * scale], GREEN if right else RED)
    return small


def _result(dataset: Brueghel, query: brueghel.Query, row: dict, box: str, threshold: float) -> np.ndarray:
    truths = [truth for name, truth in query.truths if name == row["image"]]
    hit = any(box_iou(row[box], truth) > threshold for truth in truths)
    picture = _boxed(read_image(dataset.folder / row["image"]), truths, [(row[box], hit)])
    return right_or_wrong(picture, bool(truths))


def draw_altered(
    queries: Sequence[AlteredQuery],
    pictures: str | os.PathLike,
    table_by_matcher: Tables,
    output: str | os.PathLike,
    count: int = 3,
    threshold: float = 0.3,
) -> None:
    """Draw queries of each kind: the detail as it was, the query, and the first picture that each matcher finds.

    A frame is green where the picture is the right one, else red. In the right picture the true box is white; the found
    box is green where its IoU with that is above the threshold, else red.

    Args:
        queries: of ``altered.load``.
        pictures: folder of the pictures.
        table_by_matcher: predictions, of ``altered.SCHEMA``.
        output: the sheet.
        count: details shown.
    """
    results = {name: altered.query_results(queries, table) for name, table in table_by_matcher.items()}
    details = sorted({query.detail for query in queries})
    shown = {details[n] for n in evenly_spread(len(details), count)}
    rows = [_headings(["detail", "query", *results], [_SIDE] * (2 + len(results)))]
    for kind in altered.KINDS:
        for number, query in enumerate(queries):
            if query.kind == kind and query.detail in shown:
                x1, y1, x2, y2 = query.box
                detail = fit(read_image(Path(pictures, from_text(query.picture)))[y1:y2, x1:x2], _SIDE)
                asked = _boxed(read_image(query.file), [query.query_box] if query.query_box else [], [])
                row = [detail, caption(asked, kind.replace("_", "\nin a "))]
                found = [_first_result(query, each[number], pictures, threshold) for each in results.values()]
                rows.append([*row, *found])
    write_picture(output, contact_sheet(rows))


def _first_result(query: AlteredQuery, found: dict, pictures: str | os.PathLike, threshold: float) -> np.ndarray:
    right = found["first"] == query.picture
    box = found["first_box"]
    boxes = [(box, right and box_iou(box, query.box) > threshold)] if box else []
    picture = _boxed(read_image(Path(pictures, from_text(found["first"]))), [query.box] if right else [], boxes)
    said = f"right one at {found['rank']}" if found["rank"] else "right one absent"
    return caption(right_or_wrong(picture, right), said)


def draw_places(
    dataset: Places,
    ranking: np.ndarray,
    candidates: list[np.ndarray],
    table_by_matcher: Tables,
    settings: PlaceSettings,
    output: str | os.PathLike,
    count: int,
) -> None:
    """Draw queries with the best image of the first ranking and of each matcher's re-ranking.

    Of a re-ranking both pictures are shown, lit up where they match. Frames are green within the distance of a
    positive, else red; captions give the distance and the rank of the first positive.

    Args:
        dataset: the data set. settings: of its protocol.
        ranking, candidates: the first ranking, as of ``places.read_ranking``.
        table_by_matcher: predictions of ``places.predict``.
        output: the sheet.
        count: queries shown, of those that have a positive.
    """
    positives = dataset.positives(settings.metres)
    rankings = {"first ranking": places.suppressed(list(ranking), settings)}
    for name, table in table_by_matcher.items():
        rankings[name] = places.suppressed(places.reranked(ranking, candidates, table), settings)
    ranks = {name: first_ranks(ranked, positives) for name, ranked in rankings.items()}
    queries = [query for query, found in enumerate(positives) if len(found)]
    widths = [_SIDE, _SIDE] + [2 * _SIDE] * len(table_by_matcher)
    rows = [_headings(["query", *rankings], widths)]
    masks = {name: _best_masks(table, settings) for name, table in table_by_matcher.items()}
    for query in (queries[n] for n in evenly_spread(len(queries), count)):
        asked = fit(read_image(dataset.folder / dataset.queries[query]), _SIDE)
        row = [asked]
        for name, ranked in rankings.items():
            rank = f"right one at {ranks[name][query]}" if ranks[name][query] else "right one absent"
            best = int(ranked[query][0])
            metres = dataset.metres(query, best)
            said = rank if metres is None else f"{metres:,.0f} m, {rank}"
            picture = fit(read_image(dataset.folder / dataset.database[best]), _SIDE)
            if (query, best) in masks.get(name, {}):
                pair = zip((asked, picture), masks[name][query, best], strict=True)
                picture = contact_sheet([[spotlight(each, mask) for each, mask in pair]], gap=2, margin=0)
            picture = right_or_wrong(picture, best in positives[query])
            row.append(caption(picture, said))
        rows.append(row)
    if len(rows) == 1:
        raise InputError(f"{dataset.folder}: no query has a positive within {settings.metres:g} m; check the positions")
    write_picture(output, contact_sheet(rows))


def _best_masks(table: pa.Table, settings: PlaceSettings) -> dict[tuple[int, int], list[np.ndarray]]:
    """Return where query and best candidate match, float (h, w) in [0, 1] each, by (query, item)."""
    width, height = settings.image_size
    shape = grid_shape((height, width))
    return {
        (row["query"], row["item"]): [
            np.frombuffer(row[side], np.uint8).reshape(shape) / 255 for side in ("query_mask", "item_mask")
        ]
        for row in table.filter(pc.is_valid(table["query_mask"])).to_pylist()
    }


def draw_internet(
    classes: Sequence[Collection],
    masks_by_matcher: Mapping[str, Mapping[str, np.ndarray]],
    table_by_matcher: Tables,
    output: str | os.PathLike,
    count: int = 4,
) -> None:
    """Draw images of each class with the label, and each matcher's soft mask and segmentation.

    The label's outline is green, the segmentation's orange.

    Args:
        classes: the classes.
        masks_by_matcher: soft masks (n, h, w) of ``internet.soft_masks`` by matcher and class name; only their ratio
            to each mask's maximum counts.
        table_by_matcher: segmentations of ``internet.segment_class``, of all classes.
        output: the sheet.
        count: images of each class.
    """
    titles = itertools.chain.from_iterable((f"{name}: mask", f"{name}: result") for name in table_by_matcher)
    rows = [_headings(["image", *titles], [_SIDE] * (1 + 2 * len(table_by_matcher)))]
    found = {name: _segmentations(table) for name, table in table_by_matcher.items()}
    for images in classes:
        class_name = images.folder.name
        for place in evenly_spread(len(images.images), count):
            name = images.images[place]
            image = images.read(place)
            truth = read_truth(images, name, image.shape[:2])
            row = [caption(_outlined(image, {GREEN: truth}), class_name if truth.any() else f"{class_name}: none")]
            for matcher, segmentations in found.items():
                if (class_name, name) not in segmentations:
                    raise InputError(f"segmentations of {matcher} lack {class_name}/{name}; run the discovery again")
                segmentation, jaccard = segmentations[class_name, name]
                mask = masks_by_matcher[matcher][class_name][place]
                soft = mask / mask.max() if mask.max() > 0 else np.zeros_like(mask)
                row.append(overlay_mask(fit(image, _SIDE), soft, ORANGE, 0.75))
                outlined = _outlined(image, {GREEN: truth, ORANGE: segmentation})
                row.append(caption(outlined, f"J {jaccard:.2f}" if truth.any() else "nothing to find"))
            rows.append(row)
    write_picture(output, contact_sheet(rows))


def _segmentations(table: pa.Table) -> dict[tuple[str, str], tuple[np.ndarray, float]]:
    """Return mask, bool (H, W), and J by (class, image)."""
    return {
        (row["class"], row["image"]): (
            cv2.imdecode(np.frombuffer(row["segmentation"], np.uint8), cv2.IMREAD_GRAYSCALE) > 127,
            row["jaccard"],
        )
        for row in table.to_pylist()
    }


def _outlined(image: np.ndarray, masks: Mapping[tuple[int, int, int], np.ndarray]) -> np.ndarray:
    """Return a picture of moderate size with the outlines of masks of its full size, by colour."""
    small = fit(image, _SIDE)
    for colour, mask in masks.items():
        shrunk = cv2.resize(mask.astype(np.uint8), (small.shape[1], small.shape[0]), interpolation=cv2.INTER_AREA)
        small = draw_outline(small, shrunk > 0, colour)
    return small
