"""Matching the image pairs of a collection; pairs that share nothing are dropped."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from segswap.discovery.predictions import MatchSettings, PairPredictions, joined
from segswap.matching.features import FeatureStore
from segswap.matching.predict import predict_pairs
from segswap.matching.score import joint_mask, score_pairs


def mirrored_back(
    maps_x: torch.Tensor, maps_y: torch.Tensor, protocol: str = "corrected"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Map outputs (B, 3, h, w) for (x, mirrored y) back to (x, y).

    y's map is mirrored, and so are the places in y that x's cells correspond to. "published" does as the released code:
    of y's map the mask is turned upside down and places in x are mirrored; x's map stays as it is.
    """
    if protocol == "published":
        return maps_x, torch.stack([1 - maps_y[:, 0], maps_y[:, 1], maps_y[:, 2].flip(1)], dim=1)
    return torch.cat([1 - maps_x[:, :1], maps_x[:, 1:]], dim=1), maps_y.flip(3)


@torch.inference_mode()
def match_collection(
    store: FeatureStore,
    n_images: int,
    pairs: np.ndarray,
    matcher: nn.Module,
    settings: MatchSettings,
    device: torch.device,
    what: str = "pairs",
) -> PairPredictions:
    """Match pairs of images and keep those that may share something (specification of discovery, step 1).

    Args:
        store: features of the images, and of their mirror images after them where ``settings.flip``.
        n_images: images of the collection.
        pairs: int64 (P, 2).
        matcher: in evaluation mode.
        what: name of the progress bar.
    """
    matcher = matcher.to(device)
    nothing = np.zeros((0, 3, *store.shape), np.float16)
    kept = [PairPredictions(np.zeros((0, 2), np.int64), nothing, nothing, np.zeros((0, 2)))]
    for found in predict_pairs(matcher, store, store, pairs, device, what=what):
        maps_1, maps_2, x, y = found.maps_x, found.maps_y, found.features_x, found.features_y
        if settings.flip:
            y_mirrored = store.read(pairs[found.rows, 1] + n_images).to(device)
            mirrored_1, mirrored_2 = matcher(x, y_mirrored)
            better = (mirrored_1[:, 2].sum((1, 2)) > maps_1[:, 2].sum((1, 2)))[:, None, None, None]
            mirrored_1, mirrored_2 = mirrored_back(mirrored_1, mirrored_2, settings.protocol)
            maps_1, maps_2 = torch.where(better, mirrored_1, maps_1), torch.where(better, mirrored_2, maps_2)
            y = torch.where(better, y_mirrored.flip(3), y)
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
    return joined(kept)
