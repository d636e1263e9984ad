"""The cells of a picture at its sizes: what an index keeps of it, one byte a number."""

from __future__ import annotations

import numpy as np
import torch

from segswap.images import resize
from segswap.matching.features import images_to_tensor
from segswap.models.segswap import SegSwap
from segswap.search.projection import Projection
from segswap.search.windows import level_sizes

_UNIT = 127
"""The byte of a 1: rounding moves a cosine of 64 numbers by some .002."""


@torch.inference_mode()
def window_features(model: SegSwap, image: np.ndarray) -> torch.Tensor:
    """Return the features of a picture by which windows are compared, float32 (h, w, C) on the CPU.

    Args:
        model: on the device that is to be used.
        image: RGB uint8 (H, W, 3), sides multiples of 16.
    """
    features = model.backbone.window_features(images_to_tensor([image], next(model.parameters()).device))
    return features[0].permute(1, 2, 0).float().cpu()


def projected(model: SegSwap, projection: Projection, image: np.ndarray) -> torch.Tensor:
    """Return the cells of a picture at the size it has, float32 (h, w, K), unit vectors; arguments as above."""
    return projection(window_features(model, image))


def picture_cells(model: SegSwap, projection: Projection, image: np.ndarray) -> list[np.ndarray]:
    """Return the cells of a picture at all its sizes, each int8 (h, w, K); arguments as for ``projected``."""
    return [as_bytes(projected(model, projection, resize(image, size))) for size in level_sizes(image.shape[1::-1])]


def as_bytes(cells: torch.Tensor) -> np.ndarray:
    """Return unit vectors (..., K) as int8."""
    return torch.round(cells * _UNIT).to(torch.int8).numpy()


def as_vectors(cells: np.ndarray) -> torch.Tensor:
    """Return what ``as_bytes`` has made as float32 again."""
    return torch.from_numpy(np.multiply(cells, 1 / _UNIT, dtype=np.float32))
