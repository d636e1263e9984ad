"""From a soft mask of cells to a segmentation of the pixels."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from segswap.discovery.segmentation import segment, trimap

CASES = ["a", "b", "c", "d", "hard_a", "hard_b"]


@pytest.fixture(scope="module")
def golden(shared):
    folder = shared / "golden"
    with np.load(folder / "f_discovery.npz", allow_pickle=False) as arrays:
        loaded = {name: array for name, array in arrays.items() if name.startswith("gc_")}
    return loaded, json.loads((folder / "f_discovery.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_golden_segmentations(golden, case):
    arrays, facts = golden[0], golden[1][f"grabcut_{case}"]
    image = arrays["gc__image_hard_bgr" if case.startswith("hard") else "gc__image_bgr"][:, :, ::-1]
    labels = trimap(arrays[f"gc_{case}__pred_up"], facts["fg_th"], facts["dilate"])
    np.testing.assert_array_equal(labels, arrays[f"gc_{case}__trimap"])
    found = segment(image, arrays[f"gc_{case}__pred"], facts["fg_th"], facts["dilate"])
    # Another build of OpenCV may draw other numbers; the measurement moves by as much with the seed.
    assert (found != arrays[f"gc_{case}__mask"]).sum() <= max(facts["pixels_different_for_rng_seeds_1_2_12345"])
    truth = arrays["gc__gt"]
    assert (found == truth).mean() == pytest.approx(facts["acc"], abs=1e-3)
    assert (found & truth).sum() / (found | truth).sum() == pytest.approx(facts["iou"], abs=2e-3)


def test_golden_empty_mask(golden):
    arrays, facts = golden[0], golden[1]["grabcut_zero"]
    found = segment(arrays["gc__image_bgr"], arrays["gc_zero__pred"])
    np.testing.assert_array_equal(found, arrays["gc_zero__mask"])
    assert (found == arrays["gc__gt"]).mean() == pytest.approx(facts["acc"], abs=1e-7)


@pytest.fixture
def disc():
    """Return a red disc on a green ground with noise, RGB (96, 128, 3), and where it is."""
    y, x = np.indices((96, 128))
    inside = (x - 70) ** 2 + (y - 40) ** 2 < 24**2
    image = np.where(inside[:, :, None], (200, 60, 50), (60, 160, 80))
    image = image + np.random.default_rng(0).normal(0, 12, image.shape)
    return image.clip(0, 255).astype(np.uint8), inside


def coarse(inside: np.ndarray) -> np.ndarray:
    return cv2.resize(inside.astype(np.float32), (8, 6), interpolation=cv2.INTER_AREA) * 0.02


def test_segmentation_follows_the_object_and_is_repeatable(disc):
    image, inside = disc
    before = image.copy()
    found = segment(image, coarse(inside))
    assert found.dtype == bool and found.shape == inside.shape
    assert (found & inside).sum() / (found | inside).sum() > 0.97
    cv2.setRNGSeed(99)
    np.testing.assert_array_equal(segment(image, coarse(inside)), found)
    np.testing.assert_array_equal(segment(image, 50 * coarse(inside)), found)
    np.testing.assert_array_equal(image, before)


def test_a_mask_of_one_kind_is_its_own_answer(disc):
    image, _ = disc
    assert not segment(image, np.zeros((6, 8))).any()
    assert not segment(image, np.full((6, 8), -1.0)).any()
    assert segment(image, np.full((6, 8), 0.3)).all()
    assert segment(image, np.linspace(0.1, 1, 48).reshape(6, 8)).all(), "no background to begin with"


def test_very_little_foreground_or_background_does_not_fail(disc):
    image, _ = disc
    point = np.zeros((96, 128))
    point[50, 60] = 1
    assert segment(image, point, dilation=0).dtype == bool
    all_but_one = 1 - point
    assert segment(image, all_but_one, dilation=0).sum() >= all_but_one.sum()
    assert segment(np.zeros_like(image), np.eye(6, 8)).shape == (96, 128), "an image of one colour"


@pytest.mark.parametrize("dilation", [0, 1, 4, 5, 10])
def test_trimap(dilation):
    mask = np.zeros((40, 50))
    mask[20, 25], mask[20, 26] = 1.0, 0.6
    labels = trimap(mask, 0.6, dilation)
    assert labels[20, 25] == cv2.GC_FGD
    assert labels[20, 26] == cv2.GC_PR_FGD, "above, not equal"
    assert (labels == cv2.GC_PR_BGD).sum() == max(dilation * (dilation + 1) - 2, 0)
    assert (labels != cv2.GC_BGD).sum() == max(dilation * (dilation + 1), 2)


def test_wrong_input_is_named(disc):
    image, inside = disc
    with pytest.raises(ValueError, match="expected uint8"):
        segment(image / 255, coarse(inside))
    with pytest.raises(ValueError, match="finite"):
        segment(image, np.full((6, 8), np.nan))
    with pytest.raises(ValueError, match="dilation = -1"):
        segment(image, coarse(inside), dilation=-1)
