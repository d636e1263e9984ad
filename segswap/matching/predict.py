"""Running a matcher on pairs of stored features, in batches, on any device."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from segswap.errors import InputError
from segswap.files import read_json_object
from segswap.matching.cosine import CosineMatcher
from segswap.matching.features import FeatureStore
from segswap.models.backbones.backbone import Backbone
from segswap.models.checkpoint import load_checkpoint
from segswap.progress import progress


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A batch of matched pairs, on the device of the matcher.

    Attributes:
        rows: positions in the list of pairs, int64 (B,).
        maps_x, maps_y: outputs (B, 3, h, w) of the first and of the second images.
        features_x, features_y: their features (B, C, h, w).
    """

    rows: np.ndarray
    maps_x: torch.Tensor
    maps_y: torch.Tensor
    features_x: torch.Tensor
    features_y: torch.Tensor


def add_matcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a program that matches, for ``load_matcher``."""
    parser.add_argument("--checkpoint", required=True, help="of the model; the baseline takes its backbone")
    parser.add_argument("--baseline", help="calibrated threshold: match by cosine instead of the model's matcher")


def load_matcher(
    checkpoint: str | os.PathLike, baseline: str | os.PathLike | None = None
) -> tuple[Backbone, nn.Module]:
    """Return the backbone of a checkpoint and a matcher on its features.

    Args:
        checkpoint: gives the backbone, and the matcher unless ``baseline`` is given.
        baseline: JSON with the ``threshold`` of the cosine baseline; the matcher is then ``CosineMatcher``.

    Raises:
        InputError: when a file is missing or not of its kind.
    """
    model, _ = load_checkpoint(checkpoint)
    if baseline is None:
        return model.backbone, model.matcher.eval()
    content = read_json_object(baseline)
    if "threshold" not in content:
        raise InputError(f"{baseline}: has no 'threshold'; expected the file of the rule calibrate_baseline")
    return model.backbone, CosineMatcher(content["threshold"])


@torch.inference_mode()
def predict_pairs(
    matcher: nn.Module,
    store_x: FeatureStore,
    store_y: FeatureStore,
    pairs: np.ndarray,
    device: torch.device,
    batch: int = 32,
    what: str = "pairs",
) -> Iterator[Prediction]:
    """Match pairs of stored images.

    Args:
        matcher: in evaluation mode, on ``device``.
        store_x, store_y: features of the first and second images.
        pairs: int64 (P, 2), positions in the two stores.
        batch: pairs at once.
        what: name of the progress bar.
    """
    for start in progress(range(0, len(pairs), batch), f"{what} (batches)"):
        rows = np.arange(start, min(start + batch, len(pairs)))
        x = store_x.read(pairs[rows, 0]).to(device)
        y = store_y.read(pairs[rows, 1]).to(device)
        yield Prediction(rows, *matcher(x, y), x, y)
