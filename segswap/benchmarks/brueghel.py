"""Brueghel: one-shot retrieval and detection of details in paintings (specification of the benchmarks).

Labels: ``{category: [{"query": [image, [x1, y1, x2, y2]], "gt": [[image, [x1, y1, x2, y2]], ...]}, ...]}``,
boxes in pixels of the images.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional as F

from segswap.benchmarks.metrics import average_precision, detection_average_precision, mean_over_categories
from segswap.errors import InputError
from segswap.files import read_json
from segswap.geometry import STRIDE
from segswap.images import list_images, read_image, resize
from segswap.matching.features import FeatureStore, images_to_tensor
from segswap.matching.score import joint_mask, score_pairs, self_match_mask
from segswap.models.backbone import Backbone
from segswap.progress import progress
from segswap.sampling import cell_centres, sample

Box = tuple[float, float, float, float]


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


def load(images: str | os.PathLike, labels: str | os.PathLike) -> Brueghel:
    """Read the labels and check them against the image folder.

    Raises:
        InputError: when the labels are not of the format or name images that are not in the folder; the
            message says when the two belong to different editions.
    """
    folder = Path(images)
    names = tuple(path.name for path in list_images(folder))
    content = read_json(labels)
    queries = []
    try:
        for category, entries in content.items():
            for entry in entries:
                image, box = entry["query"]
                truths = tuple((name, _checked_box(truth)) for name, truth in entry["gt"])
                queries.append(Query(str(category), image, _checked_box(box), truths))
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


@dataclasses.dataclass(frozen=True)
class QueryCrop:
    """How a query is cut out: the size the whole image is resized to, the crop in it, the box in the crop."""

    resized: tuple[int, int]
    crop: tuple[int, int, int, int]
    box: tuple[int, int, int, int]


def query_crop(size: tuple[int, int], box: Box, settings: BrueghelSettings) -> QueryCrop:
    """Return the preprocessing of a query.

    The image is resized so that the box's longer side is ``query_size`` (both sides of the box rounded to
    multiples of 16, at least 16) but no side of the image is below ``image_size``; the crop of ``image_size``
    has the box in its centre and is moved inside the image where it would leave it.

    Args:
        size: (width, height) of the image.
        box: of the query, in its pixels.
        settings: under ``protocol: published`` a box of odd side gives a crop one pixel short.
    """
    sides = np.array([box[2] - box[0], box[3] - box[1]])
    wanted = np.maximum(np.round(sides * settings.query_size / sides.max() / STRIDE), 1) * STRIDE
    resized = np.maximum(np.round(np.array(size) * wanted / sides), settings.image_size).astype(int)
    scale = resized / np.array(size)
    low, high = (np.round(np.array(corner) * scale).astype(int) for corner in (box[:2], box[2:]))
    high = np.maximum(high, low + 1)
    side = np.full(2, settings.image_size)
    margin = np.maximum((side - (high - low)) // 2, 0)
    start = low - margin
    if settings.protocol == "published":
        side = high - low + 2 * margin
    start = np.clip(start, 0, resized - side)
    crop = (*start.tolist(), *(start + side).tolist())
    return QueryCrop(tuple(resized.tolist()), crop, (*(low - start).tolist(), *(high - start).tolist()))


def query_cells(box: Sequence[float], cells: int) -> tuple[int, int, int, int]:
    """Return the cells [x1, x2) x [y1, y2) of a box in a crop, enlarged by one cell on each side."""
    low = [max(0, round(v / STRIDE - 1)) for v in box[:2]]
    high = [min(cells, round(v / STRIDE + 1)) for v in box[2:]]
    return low[0], low[1], high[0], high[1]


def read_query(dataset: Brueghel, query: Query, settings: BrueghelSettings) -> np.ndarray:
    """Return a query's crop, RGB uint8 of side ``image_size``."""
    image = read_image(dataset.folder / query.image)
    plan = query_crop((image.shape[1], image.shape[0]), query.box, settings)
    # Only the crop is resized: resizing the whole image would cost gigabytes for a small box.
    x1, y1, x2, y2 = plan.crop
    scale = plan.resized[0] / image.shape[1], plan.resized[1] / image.shape[0]
    left, top = int(x1 / scale[0]), int(y1 / scale[1])
    right = min(image.shape[1], int(np.ceil(x2 / scale[0])) + 1)
    bottom = min(image.shape[0], int(np.ceil(y2 / scale[1])) + 1)
    part = image[top:bottom, left:right]
    part = resize(part, (max(1, round(part.shape[1] * scale[0])), max(1, round(part.shape[0] * scale[1]))))
    offset_x, offset_y = round(x1 - left * scale[0]), round(y1 - top * scale[1])
    crop = part[offset_y : offset_y + y2 - y1, offset_x : offset_x + x2 - x1]
    return resize(crop, (settings.image_size, settings.image_size))


def query_names(dataset: Brueghel) -> list[str]:
    """Return the names of the queries in their feature store."""
    return [f"query {number}: {query.image} {list(query.box)}" for number, query in enumerate(dataset.queries)]


def image_loaders(dataset: Brueghel) -> list[Callable[[], np.ndarray]]:
    """Return readers of the database images, in order."""
    return [lambda path=dataset.folder / name: read_image(path) for name in dataset.images]


def query_loaders(dataset: Brueghel, settings: BrueghelSettings) -> list[Callable[[], np.ndarray]]:
    """Return readers of the query crops, in order."""
    return [lambda query=query: read_query(dataset, query, settings) for query in dataset.queries]


_SCHEMA = pa.schema(
    [
        ("query", pa.int32()),
        ("image", pa.string()),
        ("score", pa.float32()),
        ("direct_box", pa.list_(pa.float32(), 4)),
        ("cosine_box", pa.list_(pa.float32(), 4)),
        ("cosine", pa.float32()),
    ]
)


@torch.inference_mode()
def predict(
    dataset: Brueghel,
    queries: FeatureStore,
    database: FeatureStore,
    backbone: Backbone,
    matcher: nn.Module,
    settings: BrueghelSettings,
    device: torch.device,
    batch: int = 32,
    part: range | None = None,
) -> pa.Table:
    """Score every query against every other image of the database, with a box in it.

    Args:
        part: database images that are searched; None: all.

    Returns:
        one row per (query, image): the directed pair score, the box that the query's correspondences give,
        the box of the best multi-scale cosine match inside the predicted mask, and that match's cosine.
        Boxes are in pixels of the image.
    """
    backbone, matcher = backbone.to(device), matcher.to(device)
    cells = settings.image_size // STRIDE
    features = queries.read(range(len(queries))).to(device)
    boxes = [_box_in_crop(dataset, query, settings) for query in dataset.queries]
    weight = torch.stack([_box_mask(query_cells(box, cells), cells) for box in boxes]).to(device)
    for start in range(0, len(features), batch):
        some = slice(start, start + batch)
        weight[some] = self_match_mask(matcher(features[some], features[some]), weight[some])
    kernels = _kernels(features, boxes)
    rows: list[dict] = []
    for place in progress(range(len(dataset.images)) if part is None else part, "Brueghel images"):
        name = dataset.images[place]
        image = read_image(dataset.folder / name)
        size = image.shape[1], image.shape[0]
        target = database.read([place]).to(device)
        asked = [n for n, query in enumerate(dataset.queries) if query.image != name]
        cosines = [_cosine_maps(kernels, pyramid) for pyramid in _pyramid(image, backbone, settings, device)]
        for start in range(0, len(asked), batch):
            chunk = asked[start : start + batch]
            x, y = features[chunk], target.expand(len(chunk), -1, -1, -1)
            maps_x, maps_y = matcher(x, y)
            scores = score_pairs(maps_x, maps_y, x, y, weight[chunk], settings.protocol)
            joint = joint_mask(maps_x, maps_y, weight[chunk])
            target_mask = sample(joint, maps_y[:, :2]) * maps_y[:, 2:]
            for n, query in enumerate(chunk):
                cosine, cosine_box = _best_cosine_box([c[query] for c in cosines], target_mask[n, 0], kernels[query])
                rows.append(
                    {
                        "query": query,
                        "image": name,
                        "score": float(scores[n]),
                        "direct_box": _scaled(_direct_box(maps_x[n], joint[n, 0], boxes[query], cells), size),
                        "cosine_box": _scaled(cosine_box, size),
                        "cosine": cosine,
                    }
                )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _box_in_crop(dataset: Brueghel, query: Query, settings: BrueghelSettings) -> tuple[int, int, int, int]:
    height, width = read_image(dataset.folder / query.image).shape[:2]
    return query_crop((width, height), query.box, settings).box


def _box_mask(box: tuple[int, int, int, int], cells: int) -> torch.Tensor:
    mask = torch.zeros(1, cells, cells)
    mask[:, box[1] : box[3], box[0] : box[2]] = 1
    return mask


def _kernels(features: torch.Tensor, boxes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return the features (C, h, w) inside each query's box, at least one cell."""
    kernels = []
    for feature, box in zip(features, boxes, strict=True):
        x1, y1 = (int(v // STRIDE) for v in box[:2])
        x2, y2 = max(x1 + 1, round(box[2] / STRIDE)), max(y1 + 1, round(box[3] / STRIDE))
        kernels.append(feature[:, y1:y2, x1:x2])
    return kernels


def _pyramid(
    image: np.ndarray, backbone: Backbone, settings: BrueghelSettings, device: torch.device
) -> list[torch.Tensor]:
    """Return the features (1, C, h, w) of an image at the box scales, its aspect kept."""
    levels = []
    for longer in settings.box_scales:
        scale = longer * STRIDE / max(image.shape[:2])
        size = tuple(max(1, round(side * scale / STRIDE)) * STRIDE for side in (image.shape[1], image.shape[0]))
        levels.append(backbone(images_to_tensor([resize(image, size)], device)))
    return levels


def _cosine_maps(kernels: list[torch.Tensor], features: torch.Tensor) -> list[torch.Tensor | None]:
    """Correlate all queries with an image: mean cosine (h', w') per window, None where the query is larger."""
    maps: list[torch.Tensor | None] = [None] * len(kernels)
    by_size = defaultdict(list)
    for n, kernel in enumerate(kernels):
        by_size[tuple(kernel.shape[1:])].append(n)
    for (h, w), members in by_size.items():
        if h <= features.shape[2] and w <= features.shape[3]:
            correlated = F.conv2d(features, torch.stack([kernels[n] for n in members]))[0] / (h * w)
            for n, found in zip(members, correlated, strict=True):
                maps[n] = found
    return maps


def _best_cosine_box(
    maps: list[torch.Tensor | None], target_mask: torch.Tensor, kernel: torch.Tensor
) -> tuple[float, Box]:
    """Return the best window over all scales whose centre lies in the predicted mask, normalised.

    The mask's inside is where it reaches half its maximum; without any mask all windows count.
    """
    inside = (target_mask >= target_mask.max() / 2).float()[None, None]
    h, w = kernel.shape[1:]
    best: tuple[float, Box] = (-1.0, (0.0, 0.0, 0.0, 0.0))
    for found in maps:
        if found is None:
            continue
        rows, columns = found.shape[0] + h - 1, found.shape[1] + w - 1
        x = (torch.arange(found.shape[1], device=found.device) + w / 2) / columns
        y = (torch.arange(found.shape[0], device=found.device) + h / 2) / rows
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]
        allowed = F.grid_sample(inside, (2 * centres - 1).permute(0, 2, 3, 1), mode="nearest", align_corners=False)
        value, place = torch.where(allowed[0, 0] > 0, found, -1.0).flatten().max(0)
        if value > best[0]:
            row, column = divmod(int(place), found.shape[1])
            best = (float(value), (column / columns, row / rows, (column + w) / columns, (row + h) / rows))
    return best


def _direct_box(maps: torch.Tensor, joint: torch.Tensor, box: Sequence[int], cells: int) -> Box:
    """Return the box, normalised, that the correspondences of the query's cells give.

    Scale and shift that carry the cells to their targets are fitted by least squares, weighted with the
    joint mask, and applied to the query's box.
    """
    weight = joint.flatten().double()
    total = weight.sum()
    if total < 1e-6:
        return 0.0, 0.0, 0.0, 0.0
    own = cell_centres(*joint.shape, joint.device).flatten(1).double()
    target = maps[:2].flatten(1).double()
    own_mean, target_mean = (own * weight).sum(1) / total, (target * weight).sum(1) / total
    own, target = own - own_mean[:, None], target - target_mean[:, None]
    spread = (weight * own.square().sum(0)).sum()
    scale = float((weight * (own * target).sum(0)).sum() / spread) if spread > 1e-9 else 1.0
    scale = min(max(scale, 0.25), 4.0)
    side = cells * STRIDE
    corners = torch.tensor(box, dtype=torch.float64, device=joint.device).view(2, 2) / side
    low, high = ((corner - own_mean) * scale + target_mean for corner in corners)
    return (*low.clamp(0, 1).tolist(), *high.clamp(0, 1).tolist())


def _scaled(box: Box, size: tuple[int, int]) -> list[float]:
    return [box[0] * size[0], box[1] * size[1], box[2] * size[0], box[3] * size[1]]


def rankings(dataset: Brueghel, table: pa.Table) -> list[list[dict]]:
    """Return each query's rows of a prediction, best score first (ties by image name)."""
    ranked: list[list[dict]] = [[] for _ in dataset.queries]
    for row in table.to_pylist():
        ranked[row["query"]].append(row)
    return [sorted(rows, key=lambda row: (-row["score"], row["image"])) for rows in ranked]


def metrics(dataset: Brueghel, table: pa.Table, settings: BrueghelSettings) -> dict[str, float]:
    """Return the numbers of stored predictions.

    ``map`` (retrieval), ``detection_map`` (direct boxes) and ``detection_map_cosine`` (cosine boxes) at the
    first IoU threshold, both again per threshold, and ``map_<category>``. A query's own image takes no part.
    """
    retrieval: dict[str, list[float]] = defaultdict(list)
    detection: dict[tuple[str, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for query, rows in zip(dataset.queries, rankings(dataset, table), strict=True):
        truths = [(name, box) for name, box in query.truths if name != query.image]
        if not truths:
            continue
        named = {name for name, _ in truths}
        relevant = [row["image"] in named for row in rows]
        retrieval[query.category].append(average_precision(relevant, len(named)))
        for maker in ("direct", "cosine"):
            found = [(row["image"], row[f"{maker}_box"]) for row in rows]
            for threshold in settings.thresholds:
                value = detection_average_precision(found, truths, threshold)
                detection[maker, threshold][query.category].append(value)
    numbers = {"map": mean_over_categories(retrieval)}
    for (maker, threshold), values in detection.items():
        name = "detection_map" if maker == "direct" else "detection_map_cosine"
        numbers[f"{name}@{threshold:g}"] = mean_over_categories(values)
        if threshold == settings.thresholds[0]:
            numbers[name] = numbers[f"{name}@{threshold:g}"]
    numbers |= {f"map_{category}": float(np.mean(values)) for category, values in retrieval.items()}
    numbers["queries"] = sum(len(values) for values in retrieval.values())
    return numbers
