"""Cells, matrices, correspondence maps and masks."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from segswap.geometry import (
    STRIDE,
    cell_centres,
    correspondence_map,
    cycle_consistent_masks,
    grid_shape,
    inside,
    mask_box,
    mask_to_cells,
    rotation_matrix,
    sample,
    scale_matrix,
    shift_matrix,
    transform,
    warp_image,
)
from segswap.randomness import generator

ONE_OBJECT = ["pos", "neg", "zero_corner", "cropfg_pos", "cropfg_neg15", "nonsquare", "small"]
ANGLES = st.floats(-180, 180)


def random_matrix(rng: np.random.Generator, size: tuple[int, int], smallest: float = 0.5) -> np.ndarray:
    """Draw a matrix as pairs have them: stretched, rotated, scaled and shifted, most of it within the target."""
    stretch = rng.uniform(0.7, 1, 2)
    turned = rotation_matrix(tuple(np.array(size) * stretch), rng.uniform(-30, 30)) @ scale_matrix(*stretch)
    scale = rng.uniform(smallest, 1.4)
    return shift_matrix(*(rng.uniform(-0.2, 0.3, 2) * size)) @ scale_matrix(scale, scale) @ turned


def position_picture(size: tuple[int, int]) -> np.ndarray:
    """Return a picture whose two channels hold the (x, y) of each pixel's centre, float32 (H, W, 2)."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    return np.dstack([x, y]).astype(np.float32)


# Cells


@pytest.mark.parametrize("shape", [(15, 16), (16, 0), (0, 16), (-16, 16), (480, 481)])
def test_sides_that_are_no_multiple_of_the_stride_are_refused(shape):
    with pytest.raises(ValueError, match="multiples of 16"):
        grid_shape(shape)


def test_centres_of_cells_are_half_a_cell_from_the_border():
    centres = cell_centres((2, 4))
    np.testing.assert_allclose(centres[0], [[0.125, 0.375, 0.625, 0.875]] * 2)
    np.testing.assert_allclose(centres[1], [[0.25] * 4, [0.75] * 4])


@given(h=st.integers(1, 8), w=st.integers(1, 8), seed=st.integers(0, 99))
def test_mask_is_brought_to_cells_bilinearly(h, w, seed):
    mask = generator(seed, "mask").random((h * STRIDE, w * STRIDE), np.float32)
    cells = mask_to_cells(mask)
    assert (cells.shape, cells.dtype) == ((h, w), np.float32)
    np.testing.assert_allclose(cells, sample(mask, cell_centres((h, w))), atol=1e-6)
    interpolated = F.interpolate(torch.from_numpy(mask)[None, None], (h, w), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(cells, interpolated[0, 0].numpy(), atol=1e-6)


# Matrices


@pytest.mark.parametrize(("degrees", "expected"), [(90, (2, 8)), (-90, (4, 2)), (180, (8, 4)), (0, (2, 2))])
def test_positive_angles_turn_counter_clockwise_as_seen(degrees, expected):
    """On a canvas of 10 x 6 the point (2, 2), near the top left, goes to the bottom left at +90 degrees."""
    np.testing.assert_allclose(transform(rotation_matrix((10, 6), degrees), np.array([2.0, 2.0])), expected, atol=1e-9)


@given(degrees=ANGLES, width=st.floats(1, 500), height=st.floats(1, 500))
def test_rotated_canvas_is_expanded_to_hold_all_and_no_more(degrees, width, height):
    corners = transform(
        rotation_matrix((width, height), degrees), np.array([[0, 0], [width, 0], [0, height], [width, height]])
    )
    np.testing.assert_allclose(corners.min(0), 0, atol=1e-9)
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    np.testing.assert_allclose(corners.max(0), [width * cos + height * sin, width * sin + height * cos], atol=1e-9)


@given(degrees=st.floats(0.1, 179))
def test_both_signs_of_an_angle_turn_by_as_much_in_opposite_senses(degrees):
    left, right = (rotation_matrix((20, 20), sign * degrees)[:2, :2] for sign in (1, -1))
    np.testing.assert_allclose(left @ right, np.eye(2), atol=1e-12)
    # y points down: counter-clockwise as seen lifts the x axis, so its image has a negative y.
    assert (left @ [1, 0])[1] < 0 < (right @ [1, 0])[1]
    assert math.degrees(math.acos(np.clip(left[0, 0], -1, 1))) == pytest.approx(degrees, abs=1e-6)


@pytest.mark.parametrize("degrees", [-15, -4, 4, 15])
def test_drawn_picture_turns_as_the_angle_says(degrees):
    """A bar from the middle to the right: after warping, its tip is higher for positive angles."""
    picture = np.zeros((101, 101), np.uint8)
    picture[50, 50:95] = 255
    warped = warp_image(picture, rotation_matrix((101, 101), degrees), (130, 130), cv2.BORDER_CONSTANT)
    ys, xs = np.nonzero(warped > 100)
    slope = np.polyfit(xs, ys, 1)[0]
    assert math.degrees(math.atan(-slope)) == pytest.approx(degrees, abs=1)


# Warps


@pytest.mark.parametrize("seed", range(20))
def test_warped_content_lies_where_the_matrix_says(seed):
    rng = generator(seed, "warp")
    size, target = (int(rng.integers(60, 200)), int(rng.integers(60, 200))), (151, 120)
    matrix = random_matrix(rng, size)
    warped = warp_image(position_picture(size), matrix, target, cv2.BORDER_CONSTANT)
    expected = transform(np.linalg.inv(matrix), position_picture(target).astype(float))
    # Smoothing before shrinking reaches a few pixels in from the border.
    deep = ((expected > 6) & (expected < np.array(size) - 6)).all(-1)
    assert deep.sum() > 100
    # In pixels of the target, whatever the scale.
    error = (warped - expected)[deep] @ matrix[:2, :2].T
    assert np.abs(error).max() < 0.05


@pytest.mark.parametrize("channels", [(), (3,)])
def test_identity_warp_changes_nothing(channels):
    image = generator(1, "image").integers(0, 256, (48, 64, *channels), np.uint8)
    np.testing.assert_array_equal(warp_image(image, np.eye(3), (64, 48), cv2.BORDER_REFLECT), image)


def test_shift_by_whole_pixels_moves_pixels_exactly():
    image = generator(1, "image").integers(0, 256, (48, 64, 3), np.uint8)
    warped = warp_image(image, shift_matrix(5, -3), (64, 48), cv2.BORDER_CONSTANT)
    np.testing.assert_array_equal(warped[:-3, 5:], image[3:, :-5])
    assert not warped[-3:].any()
    assert not warped[:, :5].any()


def test_shrinking_fine_texture_does_not_alias():
    checkers = (np.indices((400, 400)).sum(0) % 2 * 255).astype(np.uint8)
    warped = warp_image(checkers, rotation_matrix((100, 100), 7) @ scale_matrix(0.3, 0.3), (130, 130), 0)
    assert abs(warped[45:85, 45:85].astype(int) - 127.5).max() < 20


# Correspondence maps


@pytest.mark.parametrize("shape", [(3, 5), (30, 30)])
def test_identity_maps_every_cell_to_itself(shape):
    size = shape[1] * STRIDE, shape[0] * STRIDE
    np.testing.assert_allclose(correspondence_map(np.eye(3), size, size), cell_centres(shape))


@pytest.mark.parametrize("seed", range(10))
def test_correspondence_there_and_back_is_the_identity(seed):
    rng = generator(seed, "there and back")
    source, target = (
        (STRIDE * int(rng.integers(6, 20)), STRIDE * int(rng.integers(6, 20))),
        (
            STRIDE * 12,
            STRIDE * 9,
        ),
    )
    matrix = scale_matrix(target[0] / source[0], target[1] / source[1]) @ random_matrix(rng, source, 0.8)
    there, back = (
        correspondence_map(matrix, source, target),
        correspondence_map(np.linalg.inv(matrix), target, source),
    )
    # Between cell centres an affine map is exactly linear; outside them there is nothing to interpolate.
    margin = 0.5 * STRIDE / np.array(target)[:, None, None]
    held = ((there >= margin) & (there <= 1 - margin)).all(0)
    assert held.any()
    again = np.stack([sample(channel, there) for channel in back])
    np.testing.assert_allclose(again[:, held], cell_centres(there.shape[1:])[:, held], atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_map_and_warp_agree_on_drawn_content(seed):
    """Where the map of b sends a cell's centre, a shows what b shows at that centre."""
    size = (192, 160)
    matrix = random_matrix(generator(seed, "content"), size, 0.8)
    b = warp_image(position_picture(size), matrix, size, cv2.BORDER_CONSTANT)
    corr_b = correspondence_map(np.linalg.inv(matrix), size, size) * np.array(size)[:, None, None]
    shown = np.stack([sample(b[..., channel].astype(float), cell_centres((10, 12))) for channel in range(2)])
    limits = np.array(size)[:, None, None]
    deep = ((corr_b > 8) & (corr_b < limits - 8)).all(0)
    assert deep.sum() > 10
    assert np.abs(shown - corr_b)[:, deep].max() < 0.5


# Sampling and masks


def test_sampling_outside_is_zero_and_fades_over_half_a_cell():
    position = np.array([[-0.3, 0.0, 0.125, 0.5, 1.0, 1.3], [0.5] * 6])
    np.testing.assert_allclose(sample(np.ones((4, 4)), position), [0, 0.5, 1, 1, 0.5, 0])


def test_borders_of_the_image_count_as_inside():
    position = np.array([[0.0, 1.0, 1.0001, 0.5, -1e-9], [0.0, 1.0, 0.5, -0.1, 0.5]])
    np.testing.assert_array_equal(inside(position), [True, True, False, False, False])


@pytest.mark.parametrize("seed", range(10))
def test_cycle_masks_never_exceed_what_they_come_from(seed):
    rng = generator(seed, "cycle")
    size, shape = (192, 160), (10, 12)
    matrix = random_matrix(rng, size)
    corr_a, corr_b = (correspondence_map(m, size, size) for m in (matrix, np.linalg.inv(matrix)))
    mask = rng.random(shape, np.float32)
    final_a, final_b = cycle_consistent_masks(mask, corr_a, corr_b)
    assert (final_a.dtype, final_b.dtype) == (np.float32, np.float32)
    assert (final_a >= 0).all()
    assert (final_a <= mask).all()
    assert (final_b >= 0).all()
    assert (final_b <= sample(mask, corr_b) + 1e-6).all()
    assert not final_a[~inside(corr_a)].any()
    assert not final_b[~inside(corr_b)].any()


@pytest.mark.parametrize("seed", range(5))
def test_cycle_masks_are_carried_over_and_back_and_cut_at_the_borders(seed):
    """Step by step in torch: what leaves the other image is zero, also within the half cell where sampling fades."""
    rng = generator(seed, "steps")
    mask, corr_a, corr_b = rng.random((5, 6)), rng.uniform(-0.2, 1.2, (2, 5, 6)), rng.uniform(-0.2, 1.2, (2, 4, 7))

    def carried(values: np.ndarray, corr: np.ndarray) -> np.ndarray:
        grid = torch.from_numpy(2 * corr - 1).permute(1, 2, 0)[None]
        found = F.grid_sample(torch.from_numpy(values)[None, None], grid, align_corners=False)[0, 0].numpy()
        return np.where((np.abs(corr - 0.5) <= 0.5).all(0), found, 0)

    expected_a = mask * carried(carried(mask, corr_b), corr_a)
    final_a, final_b = cycle_consistent_masks(mask, corr_a, corr_b)
    np.testing.assert_allclose(final_a, expected_a, atol=1e-6)
    np.testing.assert_allclose(final_b, carried(expected_a, corr_b), atol=1e-6)


def test_identity_keeps_a_binary_mask():
    mask = (generator(3, "mask").random((10, 12)) > 0.5).astype(np.float32)
    for final in cycle_consistent_masks(mask, cell_centres((10, 12)), cell_centres((10, 12))):
        np.testing.assert_allclose(final, mask, atol=1e-6)


def test_object_moved_out_of_the_target_has_no_mask():
    size = (192, 160)
    away = shift_matrix(500, 0)
    maps = (correspondence_map(m, size, size) for m in (away, np.linalg.inv(away)))
    assert not any(final.any() for final in cycle_consistent_masks(np.ones((10, 12)), *maps))


# Measured numbers of the released code


class Golden:
    """One measured one-object pair of the released code, its draws rounded as there."""

    def __init__(self, shared, case: str):
        self.facts = json.loads((shared / "golden" / "g_gen.json").read_text())[f"1obj_{case}"]
        with np.load(shared / "golden" / "g_gen1obj.npz", allow_pickle=False) as arrays:
            self.arrays = {name.split("__")[1]: arrays[name] for name in arrays if name.startswith(f"{case}__")}
        self.size = tuple(self.facts["img_size"])

    def __getitem__(self, quantity: str) -> np.ndarray:
        return self.arrays[quantity]

    @property
    def angle(self) -> float:
        """The angle that took effect: the released code turns negative degrees into radians twice."""
        degrees = self.facts["angle"]
        return math.radians(degrees) if degrees < 0 else degrees

    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        matrix = self["R_paste"]
        there, back = (correspondence_map(m, self.size, self.size) for m in (matrix, np.linalg.inv(matrix)))
        return there, back


@pytest.fixture(params=ONE_OBJECT)
def golden(request, shared):
    return Golden(shared, request.param)


def test_golden_chain_of_matrices(golden):
    sizes = golden.facts["sizes"]
    left, top, _, _ = golden.facts["crop_bbox"]
    steps = {
        "aspect": scale_matrix(sizes["aspect"][0] / golden.size[0], sizes["aspect"][1] / golden.size[1]),
        "rotate": rotation_matrix(sizes["aspect"], golden.angle),
        "crop": shift_matrix(-left, -top),
        "resize": scale_matrix(sizes["resize"][0] / sizes["crop"][0], sizes["resize"][1] / sizes["crop"][1]),
        "paste": shift_matrix(golden.facts["w_start"], golden.facts["h_start"]),
    }
    matrix = np.eye(3)
    for name, step in steps.items():
        matrix = step @ matrix
        np.testing.assert_allclose(matrix, golden[f"R_{name}"], rtol=0, atol=1e-9, err_msg=name)


def test_golden_correspondence_maps(golden):
    for number, found in enumerate(golden.maps(), start=1):
        for axis, channel in zip("xy", found, strict=True):
            np.testing.assert_allclose(channel, golden[f"{axis}{number}"][0], rtol=0, atol=1e-12)


def test_golden_cell_masks(golden):
    cells = mask_to_cells(golden["M_resized480"] / np.float32(255))
    np.testing.assert_allclose(cells, golden["mask_fg"], rtol=0, atol=1e-6)


def test_golden_cycle_consistent_masks(golden):
    final = cycle_consistent_masks(golden["mask_fg"], *golden.maps())
    for mask, name, total in zip(final, ("mask_fg_final", "mask_bg_final"), ("sum_fg", "sum_bg"), strict=True):
        np.testing.assert_allclose(mask, golden[name], rtol=0, atol=5e-6)
        assert mask.sum() == pytest.approx(golden.facts[total], rel=1e-5)


def test_golden_saved_labels(golden):
    maps = golden.maps()
    masks = cycle_consistent_masks(golden["mask_fg"], *maps)
    for corr, mask, name in zip(maps, masks, ("out_a", "out_b"), strict=True):
        np.testing.assert_allclose(np.concatenate([corr, mask[None]]), golden[name], rtol=0, atol=5e-6)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 9), st.integers(1, 9))
def test_mask_box_is_the_slice_that_holds_the_mask(x, y, width, height):
    mask = np.zeros((30, 30), np.uint8)
    mask[y, x : x + width] = mask[y : y + height, x] = 1
    assert mask_box(mask) == (x, y, x + width, y + height)


def test_mask_box_of_nothing_is_empty():
    assert mask_box(np.zeros((4, 5), bool)) == (0, 0, 0, 0)
