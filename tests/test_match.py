"""Matching any two images: sizes, turns, and what the model says of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from segswap.geometry import cell_centres
from segswap.matching.match import AS_GIVEN, Turn, default_sides, fitted_size, match_images, remark, turns
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator

ALL = turns(rotations=True, flips=True)
SIDES = (96, 160)


@pytest.fixture(scope="module")
def model() -> SegSwap:
    torch.manual_seed(0)
    backbone = ResNet(ResNetSettings("resnet10", 8, 16))
    return SegSwap(backbone, Transformer(TransformerSettings("tiny", 16, 0.0, "matching"))).eval()


class Colours(nn.Module):
    """A backbone that knows colours alone, so that a turned image has the turned features: exact to test with."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(F.avg_pool2d(images, 16) - 0.5, dim=1)

    def freeze(self) -> Colours:
        self.register_parameter("unused", nn.Parameter(torch.zeros(1)))
        return self


class Upright(nn.Module):
    """A matcher that takes the second image for the first one's copy; the mask is where cells are alike in colour."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._maps(x, y), self._maps(y, x)

    def _maps(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        centres = torch.from_numpy(cell_centres(x.shape[-2:])).float()[None]
        alike = F.cosine_similarity(x, F.interpolate(y, x.shape[-2:]), dim=1)[:, None]
        return torch.cat([centres, (alike > 0.99).float()], dim=1)


@pytest.fixture(scope="module")
def exact() -> SegSwap:
    return SegSwap(Colours(), Upright())


def drawn(shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Return a picture whose 16-pixel squares all have another colour."""
    cells = generator(1, "cells").integers(0, 256, (shape[0] // 16, shape[1] // 16, 3), np.uint8)
    return np.kron(cells, np.ones((16, 16, 1), np.uint8))


@given(st.tuples(st.integers(1, 30_000), st.integers(1, 30_000)), st.integers(1, 40), st.integers(0, 60))
def test_a_fitted_size_is_allowed_and_has_the_aspect(size, shortest, more):
    shortest, longest = 16 * shortest, 16 * (shortest + more)
    fitted = fitted_size(size, shortest, longest)
    assert all(side % 16 == 0 and side >= 16 for side in fitted)
    assert shortest <= max(fitted) <= longest
    assert fitted_size(size[::-1], shortest, longest) == fitted[::-1]
    scale = max(fitted) / max(size)
    for side, before in zip(fitted, size, strict=True):
        # Both are rounded: the longer side by 8 pixels at most, the other one by as much beyond its share of that.
        assert abs(side - before * scale) <= 16 or side == 16


def test_a_size_that_is_allowed_is_kept():
    assert fitted_size((640, 480), 480, 1120) == (640, 480)
    assert fitted_size((300, 200), 480, 1120) == (480, 320)
    assert fitted_size((4000, 3000), 480, 1120) == (1120, 848)
    assert fitted_size((20_000, 20), 480, 1120) == (1120, 16)


@pytest.mark.parametrize("sides", [(0, 160), (100, 160), (96, 100), (160, 96), (-16, 16)])
def test_sides_that_are_no_multiples_of_16_or_reversed_are_refused(sides):
    with pytest.raises(ValueError, match=f"sides {sides[0]} to {sides[1]}: expected positive multiples of 16"):
        fitted_size((10, 10), *sides)


def test_default_sides_are_those_of_the_papers_demo_and_follow_the_training():
    assert default_sides({}) == default_sides({"image_size": 480}) == (480, 1120)
    assert default_sides({"image_size": 160}) == (160, 368)


def test_versions_to_try_begin_with_the_image_as_given():
    assert [len(turns(*wanted)) for wanted in ((False, False), (True, False), (False, True), (True, True))] == [
        1,
        4,
        2,
        8,
    ]
    assert all(turns(*wanted)[0] == AS_GIVEN for wanted in ((False, False), (True, False), (False, True), (True, True)))
    assert len({turn.apply(np.arange(6).reshape(2, 3)).tobytes() for turn in ALL}) == 8


@pytest.mark.parametrize("turn", ALL, ids=str)
def test_a_turn_is_undone(turn):
    image = drawn()[:80]
    np.testing.assert_array_equal(turn.undo(turn.apply(image)), image)
    height, width = image.shape[:2]
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    turned = turn.apply(np.dstack([x, y]))
    rows, columns = turned.shape[:2]
    places = np.stack(np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows))
    # Each place of the turned image lies, in the image as given, where its pixel came from.
    np.testing.assert_allclose(turn.undo_positions(places), np.moveaxis(turned, 2, 0), atol=1e-12)


@pytest.mark.parametrize("turn", ALL, ids=str)
def test_a_turned_copy_is_found_and_matched_where_it_is(exact, turn):
    """The result is in places of the image as given, so it is the turned result of the picture that was not turned."""
    picture = drawn()
    given = turn.apply(picture)
    found = match_images(exact, picture, given, SIDES, ALL)
    np.testing.assert_array_equal(found.turn.apply(given), picture)
    assert found.score == pytest.approx(48, rel=1e-5) and found.shares == (1.0, 1.0)
    # A cell's colour at its place in the other image is its own.
    for image, other, positions in ((picture, given, found.positions[0]), (given, picture, found.positions[1])):
        assert positions.shape[1:] == (image.shape[0] // 16, image.shape[1] // 16)
        x, y = (np.floor(positions[axis] * other.shape[1 - axis]).astype(int) for axis in (0, 1))
        np.testing.assert_array_equal(other[y, x], image[8::16, 8::16])


@pytest.mark.parametrize("turn", ALL, ids=str)
def test_masks_are_turned_back(exact, turn):
    picture, other = drawn(), 255 - drawn()
    other[:48, :64] = picture[:48, :64]
    given = turn.apply(other)
    found = match_images(exact, picture, given, SIDES, ALL)
    expected = np.zeros((6, 8), np.float32)
    expected[:3, :4] = 1
    assert (found.masks[0] > 0.5).tolist() == (expected > 0.5).tolist()
    assert (found.masks[1] > 0.5).tolist() == (turn.apply(expected) > 0.5).tolist()
    assert found.shares == (0.25, 0.25)


def test_where_nothing_is_shared_in_any_version_the_image_stays_as_given(exact):
    found = match_images(exact, np.full((96, 96, 3), 255, np.uint8), np.zeros((96, 128, 3), np.uint8), SIDES, ALL)
    assert found.score == 0 and found.directed == (0, 0) and found.shares == (0, 0)
    assert found.turn == AS_GIVEN


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1, 1), "1 x 1 pixels are fewer than the 16 x 16 of one cell"),
        ((4000, 3), "4000 x 3 pixels are fewer than"),
        ((20, 9000), "20 x 9000 pixels are so long that the picture was squashed to be matched; cut it into parts"),
        ((16, 16), ""),
        ((1120, 16), ""),
        ((3000, 60), ""),
    ],
)
def test_sizes_at_which_a_match_says_little_have_a_remark(size, words):
    found = remark(size, (480, 1120))
    assert found.startswith(words) and bool(found) == bool(words)


@pytest.mark.parametrize("shapes", [((300, 200), (70, 90)), ((1, 1), (5, 2000)), ((96, 160), (2000, 1500))])
def test_images_of_any_two_sizes_are_matched(model, shapes):
    rng = generator(1, "noise")
    a, b = (rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes)
    found = match_images(model, a, b, SIDES, turns(rotations=True))
    for image, mask, positions in zip((a, b), found.masks, found.positions, strict=True):
        width, height = fitted_size(image.shape[1::-1], *SIDES)
        assert mask.shape == (height // 16, width // 16) and positions.shape == (2, *mask.shape)
        assert mask.dtype == positions.dtype == np.float32
        assert all(values.min() >= 0 and values.max() <= 1 for values in (mask, positions))
    assert found.score == pytest.approx(np.mean(found.directed))


def test_the_best_version_is_kept_and_more_versions_never_score_less(model):
    rng = generator(2, "noise")
    a, b = (cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (160, 112)) for _ in range(2))
    single = {turn: match_images(model, a, b, SIDES, [turn]) for turn in ALL}
    best = match_images(model, a, b, SIDES, ALL)
    assert best.score == max(match.score for match in single.values()) == single[best.turn].score
    assert len({match.score for match in single.values()}) == 8


def test_the_first_images_features_are_computed_once(model, monkeypatch):
    shapes = []
    features = model.features
    monkeypatch.setattr(model, "features", lambda images: shapes.append(images.shape[2:]) or features(images))
    match_images(model, drawn((96, 96)), drawn((96, 128)), SIDES, ALL)
    assert shapes.count((96, 96)) == 1 and len(shapes) == 9


def test_a_turn_says_what_was_done():
    assert [str(turn) for turn in (Turn(), Turn(90), Turn(0, True), Turn(180, True))] == [
        "as given",
        "rotated by 90 degrees counter-clockwise",
        "mirrored",
        "mirrored and rotated by 180 degrees counter-clockwise",
    ]
