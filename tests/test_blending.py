"""Poisson blending, and pasting: nothing moves, and nothing changes that should not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from segswap.pairs.blending import paste
from segswap.pairs.poisson import TooThin, poisson_blend
from segswap.randomness import generator


def box_mask(box: tuple[int, int, int, int], shape: tuple[int, int]) -> np.ndarray:
    """Return the mask of a box (x1, y1, x2, y2), bool (H, W)."""
    mask = np.zeros(shape, bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def disc(shape: tuple[int, int], centre: tuple[int, int], radius: int) -> np.ndarray:
    """Return the mask of a disc, bool (H, W)."""
    return cv2.circle(np.zeros(shape, np.uint8), centre, radius, 1, -1) > 0


def checkers(shape: tuple[int, int]) -> np.ndarray:
    """Return random grey specks of two pixels on middle grey, RGB uint8: any shift shows."""
    rng = generator(1, "checkers")
    coarse = rng.integers(60, 196, (shape[0] // 2 + 1, shape[1] // 2 + 1, 3), np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((2, 2, 1), np.uint8))[: shape[0], : shape[1]])


PLACES = ["inside", "left", "right", "top", "bottom", "top left", "top right", "bottom left", "bottom right", "all"]


def place(where: str, width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """Return the box (x1, y1, x2, y2) of a patch at an edge, a corner, inside or over the whole picture."""
    if where == "all":
        return 0, 0, size, size
    x = 0 if "left" in where else size - width if "right" in where else 13
    y = 0 if "top" in where else size - height if "bottom" in where else 17
    return x, y, x + width, y + height


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(("width", "height"), [(20, 20), (21, 20), (20, 21), (21, 21), (3, 3), (4, 5)])
@pytest.mark.parametrize("size", [64, 65])
def test_blending_moves_nothing_and_changes_nothing_outside_the_mask(where, width, height, size):
    """Source and target are the same specks, lighter in the source: the blend takes the light off, pixel by pixel."""
    target = checkers((size, size))
    mask = box_mask(place(where, width, height, size), (size, size))
    blended = poisson_blend(target + np.uint8(40), target, mask)
    assert (blended.shape, blended.dtype) == (target.shape, np.uint8)
    np.testing.assert_array_equal(blended[~mask], target[~mask])
    assert np.abs(blended.astype(int) - target).max() <= 3


@pytest.mark.parametrize("where", PLACES[:-1])
@pytest.mark.parametrize(("width", "height"), [(30, 24), (31, 25)])
def test_blended_patch_shows_the_source_in_place(where, width, height):
    """Of a source with specks only inside the patch, on the target's own grey, the blend is the source itself."""
    # Gradients of the source are taken from three pixels inside the mask on.
    size, margin = 64, 5
    grey = np.full((size, size, 3), 128, np.uint8)
    x1, y1, x2, y2 = place(where, width, height, size)
    inner = np.s_[y1 + margin : y2 - margin, x1 + margin : x2 - margin]
    source = grey.copy()
    source[inner] = checkers((size, size))[inner]
    blended = poisson_blend(source, grey, box_mask((x1, y1, x2, y2), (size, size)))
    assert np.abs(blended.astype(int) - source).max() <= 3


def test_blending_outside_the_mask_is_smooth_shading_within_its_box():
    """The mask's box is solved for: what is not masked there keeps its detail and may change in tone."""
    target, source = checkers((96, 96)), np.full((96, 96, 3), 50, np.uint8)
    source[:48] = 200
    mask = disc((96, 96), (40, 48), 20)
    change = poisson_blend(source, target, mask).astype(float) - target
    box = box_mask((20, 28, 61, 69), (96, 96))
    assert not change[~box].any()
    assert np.abs(change[~mask]).max() < 25
    far = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    for axis in (0, 1):
        steps = np.diff(change, axis=axis)
        unmasked = np.delete(far, 0, axis) & np.delete(far, -1, axis)
        assert np.abs(steps[unmasked]).max() < 8


def test_blending_leaves_its_inputs_alone():
    source, target, mask = checkers((64, 64)), np.full((64, 64, 3), 99, np.uint8), disc((64, 64), (20, 30), 12)
    copies = source.copy(), target.copy(), mask.copy()
    poisson_blend(source, target, mask)
    for given_array, copy in zip((source, target, mask), copies, strict=True):
        np.testing.assert_array_equal(given_array, copy)


@pytest.mark.parametrize(("width", "height"), [(0, 0), (1, 1), (2, 20), (20, 2), (1, 32)])
def test_mask_too_thin_to_blend_is_refused(width, height):
    mask = box_mask((5, 0, 5 + width, height), (32, 32))
    with pytest.raises(TooThin, match="at least three pixels"):
        poisson_blend(checkers((32, 32)), checkers((32, 32)), mask)


def seamless_clone(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return OpenCV's blend: in a frame of one pixel, with the box's own centre, so that nothing fails or moves."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, width, y, height = xs[0], xs[-1] + 1 - xs[0], ys[0], ys[-1] + 1 - ys[0]
    framed = cv2.copyMakeBorder(mask.astype(np.uint8) * 255, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    centre = int(x + 1 + width // 2), int(y + 1 + height // 2)
    pictures = (cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_REPLICATE) for picture in (source, target))
    return cv2.seamlessClone(*pictures, framed, centre, cv2.NORMAL_CLONE)[1:-1, 1:-1]


@pytest.mark.parametrize("size", [48, 160, 480])
def test_blend_is_opencvs_to_a_grey_level(size):
    rng = generator(2, "clone", size)
    for _ in range(8 if size < 480 else 3):
        coarse = rng.integers(0, 256, (2, 9, 9, 3), np.uint8)
        source, target = (cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC) for picture in coarse)
        source = cv2.add(source, rng.integers(0, 30, source.shape, np.uint8))
        centre, axes = rng.integers(0, size, 2), rng.integers(3, size // 2, 2)
        mask = np.zeros((size, size), np.uint8)
        cv2.ellipse(mask, centre.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 1, -1)
        difference = np.abs(
            poisson_blend(source, target, mask > 0).astype(int) - seamless_clone(source, target, mask > 0)
        )
        assert difference.max() <= 1


def test_ten_thousand_random_masks_blend_without_failure():
    """Boxes of every size from three pixels on, at every place, edges and corners included."""
    rng = generator(3, "masks")
    source, target = checkers((40, 40)), np.full((40, 40, 3), 120, np.uint8)
    for _ in range(10_000):
        sides = rng.integers(3, 41, 2)
        corner = rng.integers(0, 41 - sides)
        mask = box_mask((*corner, *(corner + sides)), (40, 40))
        mask &= rng.uniform(size=mask.shape) < 0.9
        try:
            blended = poisson_blend(source, target, mask)
        except TooThin:
            assert min(np.ptp(np.flatnonzero(mask.any(axis)), initial=0) for axis in (0, 1)) < 2
            continue
        np.testing.assert_array_equal(blended[~box_mask((*corner, *(corner + sides)), (40, 40))], 120)


def test_blend_does_not_depend_on_the_number_of_threads():
    source, target, mask = checkers((300, 300)), np.full((300, 300, 3), 99, np.uint8), disc((300, 300), (150, 140), 120)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(poisson_blend(source, target, mask))
    np.testing.assert_array_equal(*found)


def test_pasting_puts_the_masked_pixels_over_the_others_and_refuses_what_blending_refuses() -> None:
    source, target = checkers((40, 50)), np.full((40, 50, 3), 7, np.uint8)
    mask = disc((40, 50), (20, 18), 9)
    pasted = paste(source, target, mask)
    assert (pasted[mask] == source[mask]).all() and (pasted[~mask] == 7).all() and (target == 7).all()
    for box in ((3, 3, 5, 20), (3, 3, 20, 5)):
        with pytest.raises(TooThin):
            paste(source, target, box_mask(box, (40, 50)))
