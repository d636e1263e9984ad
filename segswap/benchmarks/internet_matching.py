"""Internet: all pairs of a class matched, those that share something kept."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch
from torch import nn

from segswap.benchmarks.internet import ImageClass, InternetSettings, PairPredictions
from segswap.matching.features import FeatureStore
from segswap.matching.predict import predict_pairs
from segswap.matching.score import joint_mask, score_pairs


def _mirrored_back(maps_x: torch.Tensor, maps_y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Map outputs for (x, mirrored y) back to (x, y): y's map is mirrored, and x's targets are."""
    maps_x = maps_x.clone()
    maps_x[:, 0] = 1 - maps_x[:, 0]
    return maps_x, maps_y.flip(3)


@torch.inference_mode()
def predict(
    images: ImageClass, store: FeatureStore, matcher: nn.Module, settings: InternetSettings, device: torch.device
) -> PairPredictions:
    """Match all pairs of a class and keep those that may share something (specification, step 1)."""
    matcher = matcher.to(device)
    n = len(images.images)
    pairs = np.array(list(itertools.combinations(range(n), 2)))
    kept: list[PairPredictions] = []
    for found in predict_pairs(matcher, store, store, pairs, device, what=images.name):
        maps_1, maps_2, x, y = found.maps_x, found.maps_y, found.features_x, found.features_y
        if settings.flip:
            y_mirrored = store.read(pairs[found.rows, 1] + n).to(device)
            other_1, other_2 = _mirrored_back(*matcher(x, y_mirrored))
            better = other_1[:, 2].sum((1, 2)) > maps_1[:, 2].sum((1, 2))
            maps_1 = torch.where(better[:, None, None, None], other_1, maps_1)
            maps_2 = torch.where(better[:, None, None, None], other_2, maps_2)
            y = torch.where(better[:, None, None, None], y_mirrored.flip(3), y)
        ones = torch.ones_like(maps_1[:, 2:])
        scores = torch.stack(
            [
                score_pairs(maps_1, maps_2, x, y, ones, settings.protocol),
                score_pairs(maps_2, maps_1, y, x, ones, settings.protocol),
            ],
            dim=1,
        )
        least = settings.min_share * ones[0].numel()
        masks = [joint_mask(*sides, ones).sum((1, 2, 3)) for sides in ((maps_1, maps_2), (maps_2, maps_1))]
        keep = ((masks[0] >= least) & (masks[1] >= least) & (scores.max(1).values > least)).cpu().numpy()
        kept.append(
            PairPredictions(
                pairs[found.rows[keep]],
                maps_1.half().cpu().numpy()[keep],
                maps_2.half().cpu().numpy()[keep],
                scores.double().cpu().numpy()[keep],
            )
        )
    return PairPredictions(
        *(np.concatenate([getattr(part, f.name) for part in kept]) for f in dataclasses.fields(PairPredictions))
    )
