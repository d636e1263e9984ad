"""Tokyo 24/7 and Pitts30k: first rankings from global descriptors, and pair scores of the candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from segswap.benchmarks.place_data import Places
from segswap.benchmarks.places import PlaceSettings, ranked, ranking_depth, read_first_ranking
from segswap.images import read_image, resize
from segswap.matching.features import FeatureStore, images_to_tensor
from segswap.matching.pooling import pool
from segswap.matching.predict import predict_pairs
from segswap.matching.score import joint_mask, score_pairs, self_match_mask
from segswap.models.backbones.backbone import Backbone
from segswap.progress import progress
from segswap.sampling import sample


@torch.inference_mode()
def global_descriptors(
    dataset: Places, names: Sequence[str], backbone: Backbone, settings: PlaceSettings, device: torch.device
) -> np.ndarray:
    """Return a pooled, L2-normalised descriptor per image, float32 (n, C)."""
    rows = []
    for name in progress(names, "global descriptors"):
        image = resize(read_image(dataset.folder / name), settings.image_size)
        features = backbone(images_to_tensor([image], device))
        rows.append(pool(features, settings.pooling)[0].cpu().numpy())
    return np.stack(rows)


def first_ranking(
    dataset: Places, settings: PlaceSettings, backbone: Backbone, device: torch.device
) -> tuple[np.ndarray, str]:
    """Return the first ranking, int32 (Q, M) of database items, best first, and its origin in words.

    It is read from the data set's file when there is one, else computed from global descriptors (exact
    search). M is enough for the candidates under every suppression.

    Raises:
        InputError: when the file does not agree with the lists.
    """
    if dataset.first_ranking is not None:
        return read_first_ranking(dataset, settings)
    queries, database = (
        global_descriptors(dataset, names, backbone, settings, device) for names in (dataset.queries, dataset.database)
    )
    origin = f"computed from {settings.pooling}-pooled backbone features"
    return ranked(queries @ database.T, ranking_depth(dataset, settings)), origin


_SCHEMA = pa.schema(
    [
        ("query", pa.int32()),
        ("item", pa.int32()),
        ("score", pa.float32()),
        ("query_mask", pa.binary()),
        ("item_mask", pa.binary()),
    ]
)


def _mask_bytes(mask: torch.Tensor) -> bytes:
    return mask[0].clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy().tobytes()


@torch.inference_mode()
def predict(
    dataset: Places,
    candidates: list[np.ndarray],
    rows: range,
    queries: FeatureStore,
    database: FeatureStore,
    matcher: nn.Module,
    settings: PlaceSettings,
    device: torch.device,
) -> pa.Table:
    """Score the candidates of a chunk of queries.

    Args:
        rows: the queries.
        queries: features of all queries. database: features of all candidates, by name.

    Returns:
        one row per (query, candidate): the directed pair score, the query as source; and, for the best candidate of
        each query alone, where the match is in both pictures: uint8 (h, w) of 0 to 255 as bytes.
    """
    matcher = matcher.to(device)
    pairs = np.array([[query, database.place(dataset.database[n])] for query in rows for n in candidates[query]])
    items = [(query, int(n)) for query in rows for n in candidates[query]]
    weights: dict[int, torch.Tensor] = {}
    found: list[dict] = []
    best: dict[int, tuple[dict, dict]] = {}
    for batch in predict_pairs(matcher, queries, database, pairs, device, what="candidates"):
        for query in {items[row][0] for row in batch.rows} - weights.keys():
            x = queries.read([query]).to(device)
            weights[query] = self_match_mask(matcher(x, x), torch.ones_like(x[:, :1]))
        weight = torch.cat([weights[items[row][0]] for row in batch.rows])
        scores = score_pairs(batch.maps_x, batch.maps_y, batch.features_x, batch.features_y, weight, settings.protocol)
        joint = joint_mask(batch.maps_x, batch.maps_y, weight)
        seen = sample(joint, batch.maps_y[:, :2]) * batch.maps_y[:, 2:]
        for n, (row, score) in enumerate(zip(batch.rows, scores.tolist(), strict=True)):
            query, item = items[row]
            found.append({"query": query, "item": item, "score": score})
            # Masks are kept of the best candidate alone: of all they would fill the disk.
            if query not in best or score > best[query][0]["score"]:
                best[query] = found[-1], {"query_mask": _mask_bytes(joint[n]), "item_mask": _mask_bytes(seen[n])}
        weights = {query: weights[query] for query in {items[row][0] for row in batch.rows}}
    for candidate, masks in best.values():
        candidate.update(masks)
    return pa.Table.from_pylist(found, schema=_SCHEMA)
