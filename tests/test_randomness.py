"""Random numbers with an address."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segswap.randomness import generator, torch_seed

SEEDS = st.integers(0, 2**63 - 1)


@given(seed=SEEDS, kind=st.sampled_from(["1obj", "2obj"]), index=st.integers(0, 10**8))
def test_an_address_gives_the_same_numbers_whatever_ran_before(seed, kind, index):
    first = generator(seed, "pair", kind, index).random(5)
    generator(seed, "pair", kind, index + 1).random(100)
    np.random.default_rng(0).random(3)
    np.testing.assert_array_equal(generator(seed, "pair", kind, index).random(5), first)


def test_neighbouring_addresses_share_nothing():
    addresses = [(seed, purpose, i) for seed, purpose, i in itertools.product((0, 1), ("pair", "style"), range(200))]
    draws = np.stack([generator(*address).random(4) for address in addresses])
    assert len(np.unique(draws)) == draws.size
    # Streams of neighbouring indices are uncorrelated: 200 x 4 uniform numbers, five standard errors.
    for start in range(0, len(draws), 200):
        block = draws[start : start + 200].ravel() - 0.5
        assert abs((block[:-4] * block[4:]).mean()) < 5 / 12 / np.sqrt(len(block))


def test_numbers_of_an_address_are_frozen():
    """Pairs on disk are named by their address: other numbers would be other pairs under old names."""
    expected = [0.15195456449159683, 0.593765541319069, 0.7290163451410202]
    np.testing.assert_allclose(generator(1, "pair", "1obj", 12345).random(3), expected, rtol=0, atol=1e-15)
    assert torch_seed(1, "epoch", 0) == 1476022821985856387


@given(seed=SEEDS, index=st.integers(0, 10**8))
def test_torch_seed_fits_a_signed_integer(seed, index):
    value = torch_seed(seed, "augment", index)
    assert 0 <= value < 2**63
    torch.Generator().manual_seed(value)


def test_global_generators_are_left_alone():
    np.random.seed(0)  # noqa: NPY002 (the global state is what is looked at)
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    generator(1, "pair").random(10)
    torch_seed(1, "pair")
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("seed", [0, np.int64(3), True])
def test_seed_may_be_any_kind_of_integer(seed):
    assert generator(seed, "a").random() == generator(int(seed), "a").random()
