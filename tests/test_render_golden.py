"""Masks, placements and labels against the measured numbers of the released code, its roundings included."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segswap.geometry import correspondence_map, cycle_consistent_masks, transform
from segswap.images import resize
from segswap.pairs.recipe import Placement, layout_boxes
from segswap.pairs.render import Labels, _joined_labels, dilate, nearest_border_crop, placement_matrix

ONE_OBJECT = ["pos", "neg", "zero_corner", "cropfg_pos", "cropfg_neg15", "nonsquare", "small"]
TWO_OBJECTS = ["a", "b", "c", "d"]


def measured(shared: Path, kind: str, case: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the facts and arrays of a measured pair."""
    facts = json.loads((shared / "golden" / "g_gen.json").read_text())[f"{kind}_{case}"]
    with np.load(shared / "golden" / f"g_gen{kind}.npz", allow_pickle=False) as arrays:
        return facts, {name.split("__")[1]: arrays[name] for name in arrays if name.startswith(f"{case}__")}


@pytest.fixture(params=ONE_OBJECT)
def one_object(request, shared):
    return measured(shared, "1obj", request.param)


@pytest.fixture(params=TWO_OBJECTS)
def two_objects(request, shared):
    return measured(shared, "2obj", request.param)


def dilated_mask(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return the measured dilated mask, uint8 (H, W) of 0 and 1, at the photo's own size."""
    width, height = facts["image_wh"]
    return np.unpackbits(arrays["dilated_bits"])[: width * height].reshape(height, width)


def test_golden_dilated_mask(one_object):
    facts, arrays = one_object
    # The released code draws polygons with Pillow, outline included; from there on the masks are the same.
    canvas = Image.new("L", tuple(facts["image_wh"]))
    ImageDraw.Draw(canvas).polygon(facts["polygon"], outline=1, fill=1)
    mask = np.array(canvas)
    assert mask.sum() == facts["poly_mask_sum"]
    dilated = dilate(mask, facts["iter_dilation"])
    np.testing.assert_array_equal(dilated, dilated_mask(facts, arrays))
    assert dilated.sum() == facts["dilated_sum"]


def test_golden_cropped_and_squashed_mask(one_object):
    facts, arrays = one_object
    mask = dilated_mask(facts, arrays)
    if facts["crop_fg"]:
        x1, y1, x2, y2 = nearest_border_crop(mask)
        assert [x2 - x1, y2 - y1] == facts["crop_fg_size"]
        mask = mask[y1:y2, x1:x2]
    squashed = resize(mask * 255, tuple(facts["img_size"])).astype(int)
    # Pillow filters with a triangle, we average over area: they differ along the outline alone.
    assert np.abs(squashed - arrays["M_resized480"]).mean() < 0.05
    assert ((squashed > 127) != (arrays["M_resized480"] > 127)).mean() < 1e-4


def test_golden_placement(one_object):
    """The released code rounds the canvas after each step; all together move the object by about 1 % of the side."""
    facts, arrays = one_object
    size, sizes = np.array(facts["img_size"]), facts["sizes"]
    free = np.maximum(size - sizes["resize"], 1)
    degrees = facts["angle"]
    placement = Placement(
        1,
        *(np.array(sizes["aspect"]) / size),
        # Negative degrees are turned into radians twice there.
        math.radians(degrees) if degrees < 0 else degrees,
        facts["ratio_choice"],
        facts["w_start"] / free[0],
        facts["h_start"] / free[1],
    )
    mask = arrays["M_resized480"]
    matrix = placement_matrix(mask, placement, (0, 0, *size))
    points = np.argwhere(mask > 127)[:, ::-1] + 0.5
    distance = np.linalg.norm(transform(matrix, points) - transform(arrays["R_paste"], points), axis=1)
    assert distance.max() < 0.0125 * size.max()


def test_golden_layout(two_objects):
    facts, _ = two_objects
    boxes = layout_boxes(facts["choice_bbox_index"], facts["img_size"])
    assert [list(box) for box in boxes] == [facts["bbox1"], facts["bbox2"]]


def object_maps(facts: dict[str, Any], arrays: dict[str, np.ndarray], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both correspondence maps of an object, 1 or 2."""
    size, matrix = (facts["img_size"],) * 2, arrays[f"R_paste{number}"]
    return correspondence_map(matrix, size, size), correspondence_map(np.linalg.inv(matrix), size, size)


def test_golden_masks_of_two_objects(two_objects):
    facts, arrays = two_objects
    once_1, once_2 = (
        cycle_consistent_masks(arrays[f"F{number}"], *object_maps(facts, arrays, number)) for number in (1, 2)
    )
    close = {"rtol": 0, "atol": 5e-6}
    for mask, name in zip(once_1, ("Mfg1_after_first_call", "Mbg1_after_first_call"), strict=True):
        np.testing.assert_allclose(mask, arrays[name], **close)
    for mask, name in zip(once_2, ("Mfg2", "Mbg2"), strict=True):
        np.testing.assert_allclose(mask, arrays[name], **close)
    # The released code filters object 1 twice.
    twice = cycle_consistent_masks(once_1[0], *object_maps(facts, arrays, 1))
    for mask, name in zip(twice, ("Mfg1", "Mbg1"), strict=True):
        np.testing.assert_allclose(mask, arrays[name], **close)


def test_golden_joined_labels(two_objects):
    facts, arrays = two_objects
    joined = _joined_labels(
        [Labels(arrays[f"Mfg{n}"], arrays[f"Mbg{n}"], *object_maps(facts, arrays, n)) for n in (1, 2)]
    )
    np.testing.assert_array_equal(joined.mask_a, arrays["Mfg"])
    np.testing.assert_array_equal(joined.mask_b, arrays["Mbg"])
    # The released code fills x of image a where a mask is above 0, everything else above 0.5.
    np.testing.assert_allclose(joined.corr_a[0], arrays["x1"][0], atol=1e-6)
    for channel, name, mask in (
        (joined.corr_a[1], "y1", "Mfg"),
        (joined.corr_b[0], "x2", "Mbg"),
        (joined.corr_b[1], "y2", "Mbg"),
    ):
        sure = np.maximum(arrays[f"{mask}1"], arrays[f"{mask}2"]) > 0.5
        assert sure.sum() > 20
        np.testing.assert_allclose(channel[sure], arrays[name][0][sure], atol=1e-6)
        assert (channel[(arrays[f"{mask}1"] == 0) & (arrays[f"{mask}2"] == 0)] == 0).all()
