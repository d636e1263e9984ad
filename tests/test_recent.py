"""Pictures and features that were used last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segswap.files import write_bytes
from segswap.images import UnreadableImage, encode_jpeg
from segswap.matching.match import AS_GIVEN, turns
from segswap.matching.recent import RecentPictures
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what features were computed of."""
    shapes = []
    features = SegSwap.features
    monkeypatch.setattr(SegSwap, "features", lambda self, x: shapes.append(tuple(x.shape[2:])) or features(self, x))
    return shapes


@pytest.fixture
def recent() -> RecentPictures:
    torch.manual_seed(0)
    model = SegSwap(ResNet(ResNetSettings("resnet10", 8, 16)), Transformer(TransformerSettings("tiny", 16)))
    return RecentPictures(model.eval(), (64, 96), kept=2)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    for number in range(3):
        write_bytes(tmp_path / f"{number}.jpg", encode_jpeg(np.full((64, 80, 3), 60 * number, np.uint8)))
    return [tmp_path / f"{number}.jpg" for number in range(3)]


def test_only_versions_that_are_missing_are_computed(recent, paths, computed):
    first = recent.features("0", paths[0])[AS_GIVEN]
    assert computed == [(64, 80)]
    found = recent.features("0", paths[0], turns(rotations=True))
    assert list(found) == list(turns(rotations=True)) and found[AS_GIVEN] is first
    assert computed == [(64, 80), (80, 64), (64, 80), (80, 64)]
    assert list(recent.features("0", paths[0])) == [AS_GIVEN] and len(computed) == 4


def test_what_was_used_last_is_kept_and_no_more(recent, paths, computed):
    for key in (0, 1, 0, 2, 0, 1):
        recent.features(str(key), paths[key])
    # The third picture took the place of the second one, which was used longer ago than the first.
    assert len(computed) == 4
    paths[0].unlink()
    assert recent.image("0", paths[0]).shape == (64, 80, 3)
    paths[2].unlink()
    with pytest.raises(UnreadableImage, match=r"2\.jpg"):
        recent.image("2", paths[2])
