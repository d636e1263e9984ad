"""Windows of pictures: sizes, scores, places; the cells that an index keeps; the projection they come from."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from segswap.errors import InputError
from segswap.search import windows
from segswap.search.cells import as_bytes, as_vectors
from segswap.search.projection import Projection
from segswap.search.windows import (
    QUERY_SIDE,
    SIDES,
    Levels,
    best_window,
    fitted_size,
    further_places,
    level_sizes,
    margins,
)

LENGTHS = st.integers(1, 5000)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return random unit vectors (..., K)."""
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def levels(*maps: torch.Tensor) -> Levels:
    """Return the maps (H, W, K) of a picture at its sizes as an index gives them."""
    return Levels(torch.cat([cells.flatten(0, 1) for cells in maps]), [tuple(cells.shape[:2]) for cells in maps])


# Sizes


@given(LENGTHS, LENGTHS, st.sampled_from(SIDES))
def test_a_fitted_size_has_the_area_asked_for_and_the_aspect_of_the_picture(width, height, side):
    fitted = fitted_size((width, height), side)
    assert all(length >= 16 and length % 16 == 0 for length in fitted)
    exact = side * math.sqrt(width / height), side * math.sqrt(height / width)
    assert all(abs(length - wanted) <= 8 or length == 16 for length, wanted in zip(fitted, exact, strict=True))


@given(LENGTHS, LENGTHS)
def test_levels_grow_and_pictures_are_not_enlarged_beyond_sense(width, height):
    sizes = level_sizes((width, height))
    areas = [a * b for a, b in sizes]
    assert sizes[0] == fitted_size((width, height), SIDES[0]) and areas == sorted(areas)
    assert len(set(sizes)) == len(sizes) <= len(SIDES)
    own = math.sqrt(width * height)
    assert len(sizes) == 1 or max(SIDES[: len(sizes)]) <= windows.MAX_ENLARGED * own
    if own >= SIDES[-1]:
        assert sizes[-1] == fitted_size((width, height), SIDES[-1])


def test_the_first_level_shows_a_picture_as_large_as_a_query():
    assert SIDES[0] == QUERY_SIDE
    assert all(1.35 < larger / smaller < 1.48 for smaller, larger in itertools.pairwise(SIDES))


# Scores


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.integers(0, 5))
def test_the_score_of_a_window_is_the_mean_cosine_over_the_query(height, width, h, w, seed):
    picture, query = unit(height, width, 3, seed=seed), unit(h, w, 3, seed=seed + 1)
    (found,) = windows.window_scores(levels(picture), query)
    top, left = margins((height, width), (h, w))
    padded = torch.zeros(height + 2 * top, width + 2 * left, 3)
    padded[top : top + height, left : left + width] = picture
    assert found.shape == (len(padded) - h + 1, padded.shape[1] - w + 1)
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            expected = (padded[row : row + h, column : column + w] * query).sum() / (h * w)
            assert float(found[row, column]) == pytest.approx(float(expected), abs=1e-5)


@given(st.integers(1, 30), st.integers(1, 30))
def test_windows_begin_outside_only_where_the_query_does_not_fit(whole, own):
    (margin, _) = margins((whole, 1), (own, 1))
    assert margin == 0 if own <= whole else whole + 2 * margin - own in (0, 1)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_sizes_are_scored_together_as_each_alone(grids, h, w):
    maps, query = [unit(*grid, 4, seed=n) for n, grid in enumerate(grids)], unit(h, w, 4, seed=9)
    together = windows.window_scores(levels(*maps), query)
    for scores, alone in zip(together, maps, strict=True):
        torch.testing.assert_close(scores, windows.window_scores(levels(alone), query)[0])
    best = max(float(scores.max()) for scores in together)
    assert windows.best_score(levels(*maps), query) == pytest.approx(best, abs=1e-6)
    assert best_window(0, (100, 80), levels(*maps), [query]).score == pytest.approx(best, abs=1e-6)


def test_a_piece_of_a_picture_is_found_where_it_was_cut_out():
    small, large = unit(9, 12, 8, seed=1), unit(18, 24, 8, seed=2)
    query = large[5:11, 7:15]
    found = best_window(3, (480, 360), levels(small, large), [unit(6, 8, 8, seed=3), query])
    assert (found.picture, found.version) == (3, 1) and found.score == pytest.approx(1, abs=1e-5)
    assert found.box == pytest.approx((7 * 20, 5 * 20, 15 * 20, 11 * 20))


def test_a_detail_that_occurs_twice_has_two_places_and_its_neighbours_have_none():
    picture = unit(20, 30, 8, seed=4)
    query = unit(5, 5, 8, seed=5)
    picture[2:7, 3:8] = query
    picture[12:17, 20:25] = F.normalize(query + 0.3 * unit(5, 5, 8, seed=6), dim=-1)
    best = best_window(0, (300, 200), levels(picture), [query])
    assert best.box == (30, 20, 80, 70)
    (further,) = further_places(best, (300, 200), levels(picture), [query], 0.7 * best.score)
    assert further.box == (200, 120, 250, 170) and 0.7 < further.score < best.score
    assert further_places(best, (300, 200), levels(picture), [query], 0.999) == []


def test_no_more_places_of_a_picture_than_are_allowed():
    picture, query = unit(60, 60, 8, seed=7), unit(5, 5, 8, seed=8)
    for n in range(6):
        picture[10 * n : 10 * n + 5, 10 * n : 10 * n + 5] = query
    best = best_window(0, (600, 600), levels(picture), [query])
    assert len(further_places(best, (600, 600), levels(picture), [query], 0.5)) == windows.MAX_PLACES - 1


# Cells


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 70))
def test_a_byte_a_number_keeps_cosines(rows, columns, length):
    cells, other = unit(rows, columns, length, seed=1), unit(rows, columns, length, seed=2)
    kept = as_vectors(as_bytes(cells))
    assert kept.dtype == torch.float32 and kept.shape == cells.shape
    error = ((kept - cells) * other).sum(-1).abs().max()
    assert error <= 0.5 / 127 * math.sqrt(length) + 1e-6


# The projection


def test_a_projection_centres_and_whitens_a_collection():
    random = torch.Generator().manual_seed(1)
    cells = torch.randn(4000, 6, generator=random) * torch.tensor([9.0, 5, 3, 2, 1, 0.01]) + 7
    projection = Projection.fit(cells, length=4)
    assert projection.length == 4 and projection.matrix.shape == (4, 6)
    whitened = (cells - projection.mean) @ projection.matrix.T
    np.testing.assert_allclose(whitened.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(whitened.numpy().T), np.eye(4), atol=5e-2)
    np.testing.assert_allclose(projection(cells).norm(dim=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("cells", [torch.ones(5, 3), torch.zeros(1, 3), torch.eye(3)[:1].expand(9, -1)])
def test_a_collection_of_one_colour_has_a_projection(cells):
    projection = Projection.fit(cells)
    assert torch.isfinite(projection(cells)).all() and torch.isfinite(projection(torch.randn(2, 3))).all()


def test_a_projection_is_kept_and_another_file_is_none(tmp_path):
    projection = Projection.fit(unit(50, 5, seed=9))
    projection.save(tmp_path / "projection.npz")
    found = Projection.read(tmp_path / "projection.npz")
    assert torch.equal(found.mean, projection.mean) and torch.equal(found.matrix, projection.matrix)
    assert found.key == projection.key != Projection.fit(unit(50, 5, seed=10)).key
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "projection.npz").read_bytes()[:100])
    np.savez(tmp_path / "other.npz", mean=np.zeros(3), matrix=np.zeros((2, 3)))
    for name in ("damaged.npz", "other.npz", "none.npz"):
        with pytest.raises(InputError, match=rf"{name}: .*delete"):
            Projection.read(tmp_path / name)
