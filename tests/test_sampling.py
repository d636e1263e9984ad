"""The torch side of the coordinates agrees with the numpy side."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from segswap import geometry, sampling
from segswap.randomness import generator

SIDES = st.integers(1, 12)


@given(h=SIDES, w=SIDES, seed=st.integers(0, 999))
def test_torch_samples_the_same_numbers_as_numpy(h, w, seed):
    rng = generator(seed, "sampling")
    maps = rng.random((2, 3, h, w))
    position = rng.uniform(-0.4, 1.4, (2, 2, 5, 7))
    found = sampling.sample(torch.from_numpy(maps), torch.from_numpy(position)).numpy()
    expected = [[geometry.sample(channel, position[b]) for channel in maps[b]] for b in range(2)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(h=SIDES, w=SIDES)
def test_cell_centres_are_the_same_on_both_sides(h, w):
    centres = sampling.cell_centres(h, w)
    assert centres.dtype == torch.float32
    np.testing.assert_allclose(centres.numpy(), geometry.cell_centres((h, w)), atol=1e-6)


@given(h=SIDES, w=SIDES, seed=st.integers(0, 99))
def test_sampling_at_the_cell_centres_is_the_identity(h, w, seed):
    maps = torch.from_numpy(generator(seed, "maps").random((1, 2, h, w), np.float32))
    np.testing.assert_allclose(sampling.sample(maps, sampling.cell_centres(h, w)[None]), maps, atol=1e-5)


@given(seed=st.integers(0, 99))
def test_cycle_masks_carry_there_weigh_and_carry_back(seed):
    rng = generator(seed, "cycle")
    x, y, weight = rng.random((2, 3, 5, 6)), rng.random((2, 3, 4, 7)), rng.random((2, 1, 5, 6))
    final_x, final_y = sampling.cycle_masks(*(torch.from_numpy(values) for values in (x, y, weight)))
    for b in range(2):
        mask_x = x[b, 2] * weight[b, 0]
        in_y = geometry.sample(mask_x, y[b, :2]) * y[b, 2]
        expected_x = geometry.sample(in_y, x[b, :2]) * mask_x
        np.testing.assert_allclose(final_x[b, 0], expected_x, atol=1e-12)
        np.testing.assert_allclose(final_y[b, 0], geometry.sample(expected_x, y[b, :2]), atol=1e-12)


def test_gradients_reach_maps_and_positions():
    rng = generator(1, "gradients")
    maps = torch.from_numpy(rng.random((1, 1, 4, 5))).requires_grad_()
    position = torch.from_numpy(rng.uniform(0.2, 0.8, (1, 2, 3, 3))).requires_grad_()
    assert torch.autograd.gradcheck(sampling.sample, (maps, position))
