"""Rendered pairs: objects lie where masks and matrices say, and nothing else changes."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segswap.errors import InputError
from segswap.geometry import correspondence_map, mask_to_cells, transform, warp_image
from segswap.images import resize
from segswap.pairs.recipe import PairSettings, Placement, Rejected, draw_recipe, layout_boxes
from segswap.pairs.render import (
    Photos,
    dilate,
    make_pair,
    nearest_border_crop,
    pair_geometry,
    placement_matrix,
)
from segswap.randomness import generator

UNIT = st.floats(0, 1)
PLACEMENTS = st.builds(
    Placement, st.just(1), st.floats(0.7, 1), st.floats(0.7, 1), st.floats(-15, 15), st.floats(0.2, 1), UNIT, UNIT
)


def random_mask(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """Return a mask of a few discs, uint8 (H, W) of 0 and 1."""
    rng = generator(seed, "mask")
    mask = np.zeros(shape, np.uint8)
    for x, y, radius in zip(
        rng.uniform(0, shape[1], 4), rng.uniform(0, shape[0], 4), rng.uniform(3, 14, 4), strict=True
    ):
        cv2.circle(mask, (int(x), int(y)), int(radius), 1, -1)
    return mask


def box_mask(box: tuple[int, int, int, int], shape: tuple[int, int]) -> np.ndarray:
    """Return the mask of a box (x1, y1, x2, y2), uint8 of 0 and 1."""
    mask = np.zeros(shape, np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return mask


def box_around(mask: np.ndarray) -> np.ndarray:
    """Return the mask of the smallest box that holds a mask."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return box_mask((xs[0], ys[0], xs[-1] + 1, ys[-1] + 1), mask.shape)


# Dilation and crop


@pytest.mark.parametrize("distance", [0, 1, 4, 20])
@pytest.mark.parametrize("seed", range(5))
def test_dilation_by_city_block_distance_is_that_many_steps_of_the_cross(seed, distance):
    mask = random_mask(seed, (90, 117))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    np.testing.assert_array_equal(dilate(mask, distance), cv2.dilate(mask, cross, iterations=distance))


def test_dilation_of_nothing_is_nothing():
    assert not dilate(np.zeros((40, 50), np.uint8), 20).any()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((5, 20, 30, 40), (5, 0, 100, 60)),
        ((30, 4, 50, 30), (0, 4, 100, 60)),
        ((60, 20, 97, 40), (0, 0, 97, 60)),
        ((30, 20, 50, 58), (0, 0, 100, 58)),
        ((0, 20, 50, 58), (0, 0, 100, 60)),
    ],
)
def test_crop_cuts_one_side_right_at_the_object(box, expected):
    assert nearest_border_crop(box_mask(box, (60, 100))) == expected


# Placement


@given(seed=st.integers(0, 30), placement=PLACEMENTS, layout=st.integers(-1, 15))
def test_objects_never_leave_their_box(seed, placement, layout):
    size = 128
    mask = random_mask(seed, (size, size)) * 255
    box = layout_boxes(layout, size)[0] if layout >= 0 else (0, 0, size, size)
    ys, xs = np.nonzero(mask)
    corners = np.concatenate([np.stack([xs + dx, ys + dy], 1) for dx in (0, 1) for dy in (0, 1)]).astype(float)
    points = transform(placement_matrix(mask, placement, box), corners)
    assert (points >= np.array(box[:2]) - 1e-6).all()
    assert (points <= np.array(box[2:]) + 1e-6).all()


@pytest.mark.parametrize("position", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_extreme_positions_touch_the_edges_of_the_box(position):
    """Unturned and unstretched, the object's own corners reach the box's."""
    mask, box = box_mask((40, 30, 70, 50), (128, 128)) * 255, (10, 20, 110, 120)
    matrix = placement_matrix(mask, Placement(1, 1.0, 1.0, 0.0, 0.5, *position), box)
    low, high = transform(matrix, np.array([[40.0, 30.0], [70.0, 50.0]]))
    np.testing.assert_allclose(high - low, [50, 100 / 3])
    expected = np.where(position, np.array(box[2:]), np.array(box[:2]))
    np.testing.assert_allclose(np.where(position, high, low), expected)


def test_largest_size_fills_the_box_on_one_axis():
    mask = box_mask((40, 30, 70, 50), (128, 128)) * 255
    matrix = placement_matrix(mask, Placement(1, 1.0, 1.0, 0.0, 1.0, 0.5, 0.5), (0, 0, 128, 128))
    low, high = transform(matrix, np.array([[40.0, 30.0], [70.0, 50.0]]))
    np.testing.assert_allclose((low[0], high[0]), (0, 128))
    np.testing.assert_allclose((low[1] + high[1]) / 2, 64)


@pytest.mark.parametrize("angle", [-15, -7, 7, 15])
def test_both_signs_of_the_angle_turn_the_object_by_as_much(angle):
    mask = box_mask((40, 30, 70, 50), (128, 128)) * 255
    matrix = placement_matrix(mask, Placement(1, 1.0, 1.0, angle, 0.5, 0.5, 0.5), (0, 0, 128, 128))
    right = matrix[:2, :2] @ [1, 0]
    assert math.degrees(math.atan2(-right[1], right[0])) == pytest.approx(angle)


# Whole pairs


def usable(world, kind: str, n: int, **changes):
    """Return the first ``n`` pairs of the tiny world."""
    photos, settings = world.photos(), dataclasses.replace(world.pair_settings, **changes)
    return settings, photos, [make_pair(photos, settings, world.seed, kind, index) for index in range(n)]


@pytest.mark.parametrize("kind", ["1obj", "2obj"])
def test_target_changes_where_the_object_is_pasted(tiny_world, kind):
    settings, photos, pairs = usable(tiny_world, kind, 8)
    size = (settings.size, settings.size)
    for pair in pairs:
        plain = resize(photos.read(pair.recipe.target_image_id), size)
        both = zip(pair.geometry.masks, pair.geometry.matrices, strict=True)
        warps = [warp_image(mask, matrix, size, cv2.BORDER_CONSTANT) for mask, matrix in both]
        alpha = np.max(warps, axis=0)
        change = np.abs(pair.b.astype(int) - plain).max(-1)
        boxes = np.max([box_around(warp >= 128) for warp in warps], axis=0)
        assert not change[boxes == 0].any()
        assert change[alpha >= 128].mean() > 4 * change[alpha < 128].mean()
        # Labels agree with what was pasted at the centres of cells; sampled from cells of a, they fade around it.
        pasted = mask_to_cells(alpha / np.float32(255))
        mask_b = pair.geometry.labels.mask_b
        assert (mask_b * pasted).sum() > 0.5 * mask_b.sum()
        assert not mask_b[cv2.dilate(pasted, np.ones((3, 3))) == 0].any()


@pytest.mark.parametrize("kind", ["1obj", "2obj"])
def test_pasting_makes_the_same_pairs_with_the_objects_own_colours(tiny_world, kind):
    photos, settings = tiny_world.photos(), dataclasses.replace(tiny_world.pair_settings, blending="paste")
    pasted = make_pair(photos, settings, tiny_world.seed, kind, 3)
    blended = make_pair(photos, tiny_world.pair_settings, tiny_world.seed, kind, 3)
    assert pasted.recipe == blended.recipe and (pasted.a == blended.a).all()
    assert (pasted.geometry.labels.mask_b == blended.geometry.labels.mask_b).all()
    assert (pasted.b != blended.b).any()
    matrix, mask = pasted.geometry.matrices[0], pasted.geometry.masks[0]
    size = pasted.b.shape[1::-1]
    inside = cv2.erode(warp_image(mask, matrix, size, cv2.BORDER_CONSTANT), np.ones((5, 5), np.uint8)) > 250
    difference = np.abs(warp_image(pasted.a, matrix, size, cv2.BORDER_REFLECT).astype(int) - pasted.b)[inside]
    assert len(difference) > 50 and np.median(difference) <= 2


@pytest.mark.parametrize("kind", ["1obj", "2obj"])
def test_labels_are_those_of_the_matrices(tiny_world, kind):
    settings, _, pairs = usable(tiny_world, kind, 8)
    size = (settings.size, settings.size)
    for pair in pairs:
        labels = pair.geometry.labels
        assert labels.mask_a.sum() >= settings.min_cells
        assert labels.mask_b.sum() >= settings.min_cells
        for name in ("mask_a", "mask_b", "corr_a", "corr_b"):
            assert getattr(labels, name).dtype == np.float32
        for mask, corr, turned in ((labels.mask_a, labels.corr_a, False), (labels.mask_b, labels.corr_b, True)):
            assert mask.min() >= 0
            assert mask.max() <= 1
            own = [correspondence_map(np.linalg.inv(m) if turned else m, size, size) for m in pair.geometry.matrices]
            distance = np.min([np.abs(corr - one).max(0) for one in own], axis=0)
            assert distance[mask > 0].max() < 1e-6
            assert ((corr[:, mask > 0] >= 0) & (corr[:, mask > 0] <= 1)).all()


@pytest.mark.parametrize("kind", ["1obj", "2obj"])
def test_pair_is_the_same_in_any_order_and_with_any_photos_read_before(tiny_world, kind):
    _, photos, pairs = usable(tiny_world, kind, 6)
    for index in (5, 2, 0):
        again = make_pair(photos, tiny_world.pair_settings, tiny_world.seed, kind, index)
        assert again.recipe == pairs[index].recipe
        np.testing.assert_array_equal(again.b, pairs[index].b)


# Content of a world of noise: every place looks different from every other


def blob(x: float, y: float, radius: float, square: float = 1) -> list[float]:
    """Return a disc as a polygon, or, with a power below 1, a square with rounded corners."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    sides = (np.sign(side) * np.abs(side) ** square for side in (np.cos(angle), np.sin(angle)))
    return (np.stack(list(sides), 1) * radius + (x, y)).ravel().tolist()


@pytest.fixture(scope="module")
def noise_photos(make_table, tmp_path_factory):
    """Photos of smooth noise, 240 x 200 pixels, each with a disc and a rounded square of categories of their own."""
    folder = tmp_path_factory.mktemp("noise")
    objects = []
    for number in range(1, 7):
        grain = generator(number, "noise").normal(0, 1, (200, 240, 3)).astype(np.float32)
        grain = cv2.GaussianBlur(grain, (0, 0), 2.0)
        picture = np.clip(128 + 30 * grain / grain.std(), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
        objects += [(number, 2 * number, blob(70, 100, 45)), (number, 2 * number + 1, blob(175, 90, 40, 0.3))]
    return Photos(make_table(objects, (240, 200)), folder)


NOISE_SETTINGS = PairSettings(
    size=240,
    dilation=6,
    crop_probability=0.5,
    stretch=(0.7, 1.0),
    rotation=15.0,
    fit_steps=4,
    fit_decay=10.0,
    fit_min={"1obj": 0.5, "2obj": 0.8},
    min_cells=4,
    max_attempts=50,
)


def matrix_of_labels(corr: np.ndarray, cells: np.ndarray, size: int) -> np.ndarray:
    """Fit the matrix from pixels of a to pixels of b that a correspondence map says, at some cells (n, 2)."""
    sources = np.concatenate([(cells[:, ::-1] + 0.5) * 16, np.ones((len(cells), 1))], axis=1)
    targets = corr[:, cells[:, 0], cells[:, 1]].T * size
    rows, *_ = np.linalg.lstsq(sources, targets, rcond=None)
    return np.vstack([rows.T, [0, 0, 1]])


def displacement(expected: np.ndarray, shown: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, float]:
    """Return by how many pixels the 17 x 17 patch at ``point`` is found elsewhere within 12 pixels, and how alike."""
    x, y = np.floor(point).astype(int)
    framed = cv2.copyMakeBorder(shown, 20, 20, 20, 20, cv2.BORDER_REFLECT)[y : y + 41, x : x + 41]
    patch = cv2.copyMakeBorder(expected, 20, 20, 20, 20, cv2.BORDER_REFLECT)[y + 12 : y + 29, x + 12 : x + 29]
    likeness = cv2.matchTemplate(framed, patch, cv2.TM_CCOEFF_NORMED)
    row, column = np.unravel_index(likeness.argmax(), likeness.shape)
    return np.array([column - 12, row - 12]), float(likeness.max())


def recipes_of_all_kinds(photos: Photos, count: int):
    """Yield pairs of settings drawn at random around the published ones; some objects fill the target."""
    for number in range(count):
        rng = generator(number, "settings")
        settings = dataclasses.replace(
            NOISE_SETTINGS,
            dilation=int(rng.integers(0, 8)),
            stretch=(float(rng.uniform(0.6, 0.9)), 1.0),
            # Every fourth object is not turned: flat sides lie along the edges of the target.
            rotation=float(rng.uniform(5, 40)) * (number % 4 > 0),
            fit_min=dict.fromkeys(("1obj", "2obj"), min(1.0, float(rng.uniform(0.4, 1.3)))),
        )
        yield make_pair(photos, settings, number, ("1obj", "2obj")[number % 2], number)


@pytest.mark.parametrize("back", [False, True], ids=["a to b", "b to a"])
def test_following_a_map_lands_on_the_same_content(noise_photos, back):
    """From each masked cell, in the picture with the pasted object; up to the edges of both pictures."""
    size, distances, at_edges, cropped = NOISE_SETTINGS.size, [], 0, 0
    for pair in recipes_of_all_kinds(noise_photos, 60):
        labels = pair.geometry.labels
        own, corr = (labels.mask_b, labels.corr_b) if back else (labels.mask_a, labels.corr_a)
        for mask, placed in zip(pair.geometry.masks, pair.geometry.matrices, strict=True):
            alpha = warp_image(mask, placed, (size, size), cv2.BORDER_CONSTANT) if back else mask
            cells = np.argwhere((own > 0.5) & (mask_to_cells(alpha / np.float32(255)) > 0.99))
            if len(cells) < 4:
                continue
            # The labels alone say where the content of a should be seen in b.
            matrix = matrix_of_labels(corr, cells, size)
            matrix = np.linalg.inv(matrix) if back else matrix
            expected = warp_image(pair.a, matrix, (size, size), cv2.BORDER_REFLECT)
            pasted = warp_image(mask, matrix, (size, size), cv2.BORDER_CONSTANT)
            # Gradients of the source are taken from three pixels inside the mask on; at the target's edges as well.
            whole = cv2.erode(pasted, np.ones((17 + 6, 17 + 6), np.uint8), borderValue=0) > 250
            for row, column in cells:
                point = (np.array([column, row]) + 0.5) * 16 if back else corr[:, row, column] * size
                # At an edge the patch beside it is looked at.
                centre = np.clip(point, 14, size - 15)
                if not whole[tuple(centre[::-1].astype(int))]:
                    continue
                shift, likeness = displacement(expected, pair.b, centre)
                where = f"{pair.recipe.key}, cell {row}, {column}"
                # Half a cell is 8 pixels. Blending adds a smooth ramp, which may move the best place by a pixel or two.
                assert np.abs(shift).max() <= 2, f"{where}: the content is {shift} pixels away"
                assert likeness > 0.7, where
                distances.append(np.abs(shift).max())
                at_edges += min(*point, *(size - point)) < 12
                cropped += pair.recipe.crop
    assert len(distances) > 1000
    assert np.mean(distances) < 0.1
    assert min(at_edges, cropped) > 10


def test_objects_turn_as_the_recipe_says_to_both_sides(noise_photos):
    """What the labels of a pair say of its rotation: the image of a's x axis."""
    signs = []
    for pair in recipes_of_all_kinds(noise_photos, 60):
        for mask, placement in zip(pair.geometry.masks, pair.recipe.placements, strict=True):
            own = (pair.geometry.labels.mask_a > 0) & (mask_to_cells(mask / np.float32(255)) > 0.5)
            cells = np.argwhere(own)
            right = matrix_of_labels(pair.geometry.labels.corr_a, cells, NOISE_SETTINGS.size)[:2, 0]
            assert math.degrees(math.atan2(-right[1], right[0])) == pytest.approx(placement.angle, abs=0.01)
            signs.append(np.sign(placement.angle))
    assert min(signs.count(1), signs.count(-1)) > 15


def test_source_picture_is_the_photo_cut_at_the_object(noise_photos):
    size, cut = NOISE_SETTINGS.size, 0
    for index in range(12):
        pair = make_pair(noise_photos, NOISE_SETTINGS, 1, "1obj", index)
        photo = noise_photos.read(pair.recipe.source_image_id)
        x1, y1, x2, y2 = pair.geometry.source_box
        np.testing.assert_array_equal(pair.a, resize(photo[y1:y2, x1:x2], (size, size)))
        mask = pair.geometry.masks[0] > 0
        borders = mask[:, 0].any(), mask[0].any(), mask[:, -1].any(), mask[-1].any()
        assert borders == (x1 > 0, y1 > 0, x2 < photo.shape[1], y2 < photo.shape[0])
        assert sum(borders) == pair.recipe.crop
        cut += pair.recipe.crop
    assert 0 < cut < 12


# What is rejected


def test_overlapping_objects_are_rejected(make_table):
    table = make_table([(1, 1, blob(90, 100, 40)), (1, 2, blob(165, 100, 30))], (240, 200))
    settings = dataclasses.replace(NOISE_SETTINGS, dilation=10)
    recipe = draw_recipe(table, settings, generator(1), (1, "2obj", 0))
    with pytest.raises(Rejected, match="overlap"):
        pair_geometry(table, settings, recipe)
    pair_geometry(table, dataclasses.replace(settings, dilation=0), recipe)


def test_objects_that_share_a_cell_are_rejected(make_table):
    """Two boxes side by side: no pixel is shared, but the cell whose centre lies on their border is."""
    border, bottom = 120.0, 150.0
    left = [40.0, 50.0, border, 50.0, border, bottom, 40.0, bottom]
    right = [border, 50.0, 200.0, 50.0, 200.0, bottom, border, bottom]
    table = make_table([(1, 1, left), (1, 2, right)], (240, 200))
    settings = dataclasses.replace(NOISE_SETTINGS, dilation=0)
    recipe = draw_recipe(table, settings, generator(1), (1, "2obj", 0))
    with pytest.raises(Rejected, match="touch"):
        pair_geometry(table, settings, recipe)


def test_small_mask_is_rejected(make_table):
    table = make_table([(1, 1, blob(90, 100, 10)), (2, 2, blob(90, 100, 10))], (240, 200))
    recipe = draw_recipe(table, NOISE_SETTINGS, generator(1), (1, "1obj", 0))
    with pytest.raises(Rejected, match="too small"):
        pair_geometry(table, dataclasses.replace(NOISE_SETTINGS, dilation=0), recipe)


def test_pair_that_cannot_be_made_says_why_and_what_to_do(noise_photos):
    settings = dataclasses.replace(NOISE_SETTINGS, min_cells=500, max_attempts=7)
    with pytest.raises(InputError, match=r"1obj 3: 7 draws and none usable.*'mask too small': 7.*pairs\.min_cells"):
        make_pair(noise_photos, settings, 1, "1obj", 3)


@pytest.mark.parametrize("fault", ["cut", "missing", "resized"])
def test_unusable_photo_is_drawn_around_and_named(noise_photos, tmp_path, fault):
    for path in noise_photos.folders[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    broken = tmp_path / "3.png"
    if fault == "cut":
        broken.write_bytes(broken.read_bytes()[:1000])
    elif fault == "missing":
        broken.unlink()
    else:
        Image.new("RGB", (100, 100)).save(broken)
    photos = Photos(noise_photos.table, tmp_path)
    pairs = [make_pair(photos, NOISE_SETTINGS, 1, "1obj", index) for index in range(12)]
    assert 3 not in {i for pair in pairs for i in (pair.recipe.source_image_id, pair.recipe.target_image_id)}
    assert any("photo unreadable" in pair.recipe.rejected for pair in pairs)
    assert list(photos.unreadable) == [3]
    assert "3.png" in photos.unreadable[3]
