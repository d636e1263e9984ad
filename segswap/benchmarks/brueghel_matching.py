"""Brueghel: pair scores and boxes of every query in every image, from features and a matcher."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional as F

from segswap.benchmarks.brueghel import Brueghel, BrueghelSettings, Query, plan_query
from segswap.geometry import STRIDE
from segswap.images import read_image, resize
from segswap.matching.crops import Box, box_cells, query_cells, scaled_box
from segswap.matching.details import direct_box, query_weights, target_masks
from segswap.matching.features import FeatureStore, images_to_tensor
from segswap.matching.score import joint_mask, score_pairs
from segswap.models.backbones.backbone import Backbone
from segswap.progress import progress

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
    weight = query_weights(features, [query_cells(box, cells) for box in boxes], matcher, batch)
    kernels = _kernels(features, boxes)
    rows: list[dict] = []
    for place in progress(range(len(dataset.images)) if part is None else part, "Brueghel images"):
        name = dataset.images[place]
        image = read_image(dataset.folder / name)
        size = image.shape[1], image.shape[0]
        target = database.read([place]).to(device)
        asked = [n for n, query in enumerate(dataset.queries) if query.image != name]
        cosines = [_cosine_maps(kernels, pyramid) for pyramid in _pyramid(image, backbone, settings, device)]
        for chunk, maps_x, maps_y, scores in _scored(matcher, features, weight, target, asked, settings, batch):
            joint = joint_mask(maps_x, maps_y, weight[chunk])
            target_mask = target_masks(maps_y, joint)
            for n, query in enumerate(chunk):
                cosine, cosine_box = _best_cosine_box([c[query] for c in cosines], target_mask[n, 0], kernels[query])
                rows.append(
                    {
                        "query": query,
                        "image": name,
                        "score": float(scores[n]),
                        "direct_box": scaled_box(direct_box(maps_x[n], joint[n, 0], boxes[query]), size),
                        "cosine_box": scaled_box(cosine_box, size),
                        "cosine": cosine,
                    }
                )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


@torch.inference_mode()
def score_retrieval(
    dataset: Brueghel,
    queries: Sequence[int],
    query_store: FeatureStore,
    database: FeatureStore,
    matcher: nn.Module,
    settings: BrueghelSettings,
    device: torch.device,
    batch: int = 32,
) -> tuple[Brueghel, pa.Table]:
    """Score some queries against every other image of the database, without boxes: for the selection of models.

    Args:
        queries: their positions in the data set.

    Returns:
        the data set with these queries alone, and one row per (query, image) with the directed pair score.
    """
    part = dataclasses.replace(dataset, queries=tuple(dataset.queries[n] for n in queries))
    features = query_store.read(queries).to(device)
    boxes = [_box_in_crop(dataset, query, settings) for query in part.queries]
    cells = settings.image_size // STRIDE
    weight = query_weights(features, [query_cells(box, cells) for box in boxes], matcher, batch)
    rows: list[dict] = []
    for place, name in enumerate(progress(dataset.images, "Brueghel images")):
        target = database.read([place]).to(device)
        asked = [n for n, query in enumerate(part.queries) if query.image != name]
        for chunk, _, _, scores in _scored(matcher, features, weight, target, asked, settings, batch):
            found = zip(chunk, scores.tolist(), strict=True)
            rows += [{"query": n, "image": name, "score": score} for n, score in found]
    return part, pa.Table.from_pylist(rows)


def _scored(
    matcher: nn.Module,
    features: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    asked: list[int],
    settings: BrueghelSettings,
    batch: int,
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Match an image, features (1, C, h, w), with the queries that ask for it, some at a time.

    Yields:
        these queries, the outputs of queries and image, and the directed pair scores.
    """
    for start in range(0, len(asked), batch):
        chunk = asked[start : start + batch]
        x, y = features[chunk], target.expand(len(chunk), -1, -1, -1)
        maps_x, maps_y = matcher(x, y)
        yield chunk, maps_x, maps_y, score_pairs(maps_x, maps_y, x, y, weight[chunk], settings.protocol)


def _box_in_crop(dataset: Brueghel, query: Query, settings: BrueghelSettings) -> tuple[int, int, int, int]:
    height, width = read_image(dataset.folder / query.image).shape[:2]
    return plan_query(dataset, query, (width, height), settings).box


def _kernels(features: torch.Tensor, boxes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return the features (C, h, w) inside each query's box, at least one cell."""
    kernels = []
    for feature, box in zip(features, boxes, strict=True):
        x1, y1, x2, y2 = box_cells(box)
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
