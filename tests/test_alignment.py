"""Laying two pictures over each other: correspondences in pixels, the similarity they agree on, aligned views."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap.geometry import (
    correspondence_map,
    grid_shape,
    inside,
    rotation_matrix,
    scale_matrix,
    shift_matrix,
    transform,
)
from segswap.matching.alignment import align, aligned_views, correspondences, match_lines
from segswap.matching.match import AS_GIVEN, Match, Turn
from segswap.randomness import generator

SIZE_A, SIZE_B = (320, 240), (256, 288)
"""Of the pictures as they were matched; the pictures themselves may be larger."""

MIRROR = np.diag([-1.0, 1, 1]) @ shift_matrix(-SIZE_B[0], 0)


def similarity(scale: float, degrees: float, shift: tuple[float, float], mirrored: bool = False) -> np.ndarray:
    """Return a matrix, pixels of b to pixels of a: about the middles of both."""
    turn = rotation_matrix(SIZE_B, degrees)
    turn[:2, 2] += np.array(SIZE_B) / 2 - transform(turn, np.array(SIZE_B) / 2)
    middle = shift_matrix(SIZE_A[0] / 2 + shift[0], SIZE_A[1] / 2 + shift[1])
    onto = middle @ scale_matrix(scale, scale) @ shift_matrix(-SIZE_B[0] / 2, -SIZE_B[1] / 2) @ turn
    return onto @ MIRROR if mirrored else onto


def perfect(matrix: np.ndarray, mirrored: bool = False) -> Match:
    """Return the match of pictures that lie on each other by a matrix, b to a."""
    positions = (
        correspondence_map(np.linalg.inv(matrix), SIZE_A, SIZE_B),
        correspondence_map(matrix, SIZE_B, SIZE_A),
    )
    masks = tuple(inside(position).astype(np.float32) for position in positions)
    positions = tuple(position.clip(0, 1).astype(np.float32) for position in positions)
    return Match(1.0, (1.0, 1.0), Turn(0, mirrored), masks, positions)


def nothing() -> Match:
    masks = tuple(np.zeros(grid_shape(size[::-1]), np.float32) for size in (SIZE_A, SIZE_B))
    return Match(0.0, (0.0, 0.0), AS_GIVEN, masks, tuple(np.zeros((2, *mask.shape), np.float32) for mask in masks))


@given(st.floats(0.4, 2.5), st.floats(-180, 180), st.floats(-60, 60), st.floats(-40, 40), st.booleans())
def test_a_similarity_is_found(scale, degrees, x, y, mirrored):
    matrix = similarity(scale, degrees, (x, y), mirrored)
    found = align(perfect(matrix, mirrored), SIZE_A, SIZE_B)
    corners = np.array([[0, 0], [SIZE_B[0], 0], [0, SIZE_B[1]], SIZE_B], float)
    np.testing.assert_allclose(transform(found.matrix, corners), transform(matrix, corners), atol=0.5)
    assert found.agreeing == found.count


@pytest.mark.parametrize("factor", [(1, 1), (3.5, 0.5)])
def test_matrix_and_box_are_in_pixels_of_the_pictures(factor):
    """Whatever the sizes at which they were matched."""
    matrix = similarity(0.5, 20, (30, 10))
    sizes = [tuple(round(side * f) for side in size) for size, f in zip((SIZE_A, SIZE_B), factor, strict=True)]
    found = align(perfect(matrix), *sizes)
    expected = scale_matrix(factor[0], factor[0]) @ matrix @ scale_matrix(1 / factor[1], 1 / factor[1])
    np.testing.assert_allclose(found.matrix, expected, atol=0.02 * factor[0] / factor[1])
    middle = transform(matrix, np.array(SIZE_B) / 2) * factor[0]
    x1, y1, x2, y2 = found.box
    assert 0 <= x1 < middle[0] < x2 <= sizes[0][0] and 0 <= y1 < middle[1] < y2 <= sizes[0][1]
    # The second picture covers 0.5 * 256 by 0.5 * 288 pixels, turned by 20 degrees; a margin is added.
    assert 150 * factor[0] < x2 - x1 < 250 * factor[0]


def test_noise_and_strays_do_not_matter():
    rng = generator(3, "noise")
    matrix = similarity(0.8, 10, (10, 5))
    match = perfect(matrix)
    for mask, position in zip(match.masks, match.positions, strict=True):
        position += rng.normal(0, 0.01, position.shape)
        stray = rng.random(mask.shape) < 0.3
        position[:, stray] = rng.random((2, stray.sum()))
    found = align(match, SIZE_A, SIZE_B)
    corners = np.array([[0, 0], [SIZE_B[0], 0], [0, SIZE_B[1]], SIZE_B], float)
    assert np.abs(transform(found.matrix, corners) - transform(matrix, corners)).max() < 8, "half a cell"
    assert 0.55 * found.count < found.agreeing < 0.8 * found.count


def test_nothing_a_few_cells_and_disagreeing_ones_are_not_aligned():
    found = align(nothing(), SIZE_A, SIZE_B)
    assert found.matrix is None and found.box is None and str(found).startswith("no cells correspond, too few")
    match = nothing()
    match.masks[0][3, 4:7] = 1
    found = align(match, SIZE_A, SIZE_B)
    assert found.matrix is None and str(found).startswith("3 cells correspond, too few")
    rng = generator(4, "noise")
    for mask, position in zip(match.masks, match.positions, strict=True):
        mask[:] = 1
        position[:] = rng.random(position.shape)
    found = align(match, SIZE_A, SIZE_B)
    assert found.matrix is None and f"only {found.agreeing} of 588 correspondences agree" in str(found)


@pytest.mark.parametrize("where", [0.5, 0.2])
def test_cells_that_all_correspond_to_one_place_are_no_alignment(where):
    match = nothing()
    match.masks[0][:] = 1
    match.positions[0][:] = where
    found = align(match, SIZE_A, SIZE_B)
    assert found.matrix is None and "only 0 of 300 correspondences agree" in str(found)


def test_correspondences_are_in_pixels_and_of_both_pictures():
    match = perfect(np.eye(3))
    match.masks[0][:] = 0
    match.masks[1][:] = 0
    match.masks[0][2, 5], match.masks[1][7, 1] = 0.75, 0.625
    sizes = (640, 480), (256, 288)
    np.testing.assert_allclose(
        correspondences(match, *sizes), [[176, 80, 88, 40, 0.75], [48, 240, 24, 120, 0.625]], atol=1e-4
    )


def test_lines_start_in_the_first_picture_whichever_has_more_cells():
    for first, second in ((slice(0, 4), slice(0, 2)), (slice(0, 2), slice(0, 4))):
        match = perfect(np.eye(3))
        match.masks[0][first], match.masks[1][second] = 0, 0
        lines = match_lines(match, 12)
        assert len(lines) == 12
        for start, end, _ in lines:
            np.testing.assert_allclose(start * SIZE_A, end * SIZE_B, atol=1e-3)
    assert match_lines(nothing(), 12) == []


@pytest.mark.parametrize("mirrored", [False, True])
def test_aligned_views_show_the_same(mirrored):
    """A picture and its turned, shrunk copy, laid over each other, are alike."""
    coarse = generator(5, "picture").integers(0, 256, (12, 16, 3), np.uint8)
    a = cv2.resize(coarse, (960, 720), interpolation=cv2.INTER_CUBIC)
    matrix = similarity(0.6, 35, (0, 0), mirrored)
    pixels = scale_matrix(3, 3) @ matrix
    x, y = np.meshgrid(np.arange(SIZE_B[0]) + 0.5, np.arange(SIZE_B[1]) + 0.5)
    places = transform(pixels, np.stack([x, y], -1)).astype(np.float32) - 0.5
    b = cv2.remap(a, places[..., 0], places[..., 1], cv2.INTER_LINEAR)
    found = align(perfect(matrix, mirrored), (960, 720), SIZE_B)
    first, second = aligned_views(a, b, found, 300)
    assert first.shape == second.shape and max(first.shape) == 300
    # Away from what is grey, as it lies beyond the second picture.
    seen = cv2.erode((second != 128).any(2).astype(np.uint8), np.ones((7, 7))) > 0
    assert 0.3 < seen.mean() < 1
    assert np.abs(first.astype(int) - second)[seen].mean() < 3
    # The middle of the region in the first picture is the middle of the view.
    x1, y1, x2, y2 = found.box
    np.testing.assert_allclose(
        first[first.shape[0] // 2, first.shape[1] // 2], a[(y1 + y2) // 2, (x1 + x2) // 2], atol=25
    )


def test_views_of_very_large_pictures_touch_only_what_is_seen():
    """OpenCV warps no picture with more than 32,767 pixels on a side."""
    long = np.broadcast_to(np.arange(40_000)[None, :, None] // 200, (40, 40_000, 3)).astype(np.uint8)
    found = align(perfect(np.eye(3)), (40_000, 30_000), (40_000, 36_000))
    assert found.matrix is not None
    first, second = aligned_views(long, long, found, 200)
    assert first.shape == second.shape and first[0, 100, 0] == pytest.approx(second[0, 100, 0], abs=3)
