"""Photometric changes of a batch's pictures: what each does, and that a picture depends on itself alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segswap.randomness import generator
from segswap.training.photometric import (
    UNCHANGED,
    Changes,
    PhotometricSettings,
    add_noise,
    blur,
    change_contrast,
    change_gain,
    change_gamma,
    change_pictures,
    change_saturation,
    draw_changes,
    make_grey,
)

STRENGTHS = ("gain", "gamma", "contrast", "saturation", "grey", "blur", "noise")
STRONG = PhotometricSettings(
    gain=2, gamma=2, contrast=2, saturation=2, grey=0.5, blur=0.5, blur_radius=(0, 3), noise=0.5
)
FACTORS = {"gain": change_gain, "gamma": change_gamma, "contrast": change_contrast, "saturation": change_saturation}


def pictures(seed: int, count: int = 3) -> torch.Tensor:
    """Return pictures (count, 3, 12, 20) of every brightness, black and white among their values."""
    values = generator(seed, "pictures").uniform(-0.3, 1.3, (count, 3, 12, 20)).clip(0, 1)
    return torch.from_numpy(values.astype(np.float32))


def changed(images: torch.Tensor, settings: PhotometricSettings, seed: int) -> torch.Tensor:
    return change_pictures(images, draw_changes(settings, generator(seed, "changes"), len(images)))


def only(changes: Changes, row: int) -> Changes:
    return Changes(*(getattr(changes, field.name)[row : row + 1] for field in dataclasses.fields(Changes)))


seeds = st.integers(0, 2**31)
some_settings = st.builds(
    PhotometricSettings,
    **{name: st.sampled_from([0.0, 0.3, 1.0]) for name in STRENGTHS},
    blur_radius=st.sampled_from([(0.3, 1.5), (0.0, 4.0), (2.0, 2.0)]),
)


@given(seeds, some_settings)
def test_values_stay_between_black_and_white(seed, settings):
    found = changed(pictures(seed), settings, seed)
    assert found.shape == (3, 3, 12, 20) and found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1


@given(seeds)
def test_without_strength_nothing_is_changed(seed):
    images = pictures(seed)
    assert torch.equal(changed(images, UNCHANGED, seed), images)
    assert torch.equal(changed(images, dataclasses.replace(UNCHANGED, blur_radius=(1, 2)), seed), images)


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_strength_changes_pictures_and_leaves_the_draws_of_the_others_alone(name):
    images = pictures(1)
    one = dataclasses.replace(UNCHANGED, **{name: 1.0})
    assert one.changing and not UNCHANGED.changing
    assert not torch.equal(changed(images, one, 1), images)
    strong, never = (
        draw_changes(settings, generator(1, "changes"), 20)
        for settings in (STRONG, dataclasses.replace(STRONG, **{name: 0.0}))
    )
    differing = {
        field.name
        for field in dataclasses.fields(Changes)
        if not torch.equal(getattr(strong, field.name), getattr(never, field.name))
    }
    assert differing == {name}


@given(seeds, some_settings)
def test_equal_draws_give_equal_pictures_and_others_give_others(seed, settings):
    images = pictures(seed)
    before = images.clone()
    found = changed(images, settings, seed)
    assert torch.equal(images, before), "what is given stays"
    assert torch.equal(changed(images, settings, seed), found)
    if settings.gain:
        assert not torch.equal(changed(images, settings, seed + 1), found)


@given(seeds)
def test_a_picture_depends_on_itself_alone(seed):
    images = pictures(seed, 4)
    changes = draw_changes(STRONG, generator(seed, "changes"), 4)
    together = change_pictures(images, changes)
    for row in range(4):
        assert torch.equal(change_pictures(images[row : row + 1], only(changes, row))[0], together[row])


@given(seeds)
def test_neither_the_layout_in_memory_nor_autocast_has_an_influence(seed):
    images = pictures(seed)
    expected = changed(images, STRONG, seed)
    assert torch.equal(changed(images.contiguous(memory_format=torch.channels_last), STRONG, seed), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(changed(images, STRONG, seed), expected)


def test_chances_and_bounds_are_those_of_the_settings():
    changes = draw_changes(
        dataclasses.replace(STRONG, grey=0.1, blur=0.24, blur_radius=(1, 2)), generator(1, "x"), 4000
    )
    assert changes.grey.float().mean() == pytest.approx(0.1, abs=0.02)
    blurred = changes.blur[changes.blur > 0]
    assert len(blurred) / 4000 == pytest.approx(0.24, abs=0.03)
    assert blurred.min() >= 1 and blurred.max() <= 2 and blurred.mean() == pytest.approx(1.5, abs=0.05)
    assert (
        changes.noise.min() >= 0
        and changes.noise.max() <= 0.5
        and changes.noise.mean() == pytest.approx(0.25, abs=0.02)
    )
    for name in FACTORS:
        logs = getattr(changes, name).log()
        assert logs.abs().max() <= 2 + 1e-6 and logs.mean() == pytest.approx(0, abs=0.1)
        assert logs.std() == pytest.approx(2 / 3**0.5, rel=0.05), "uniform"
    assert changes.noise_seed.unique().numel() == 4000


# Each change


@given(seeds)
def test_factors_of_one_change_no_bit(seed):
    images = pictures(seed)
    for change in FACTORS.values():
        assert torch.equal(change(images, torch.ones(3)), images)
    assert torch.equal(make_grey(images, torch.zeros(3, dtype=torch.bool)), images)
    assert torch.equal(blur(images, torch.zeros(3)), images)
    assert torch.equal(add_noise(images, torch.zeros(3), torch.arange(3)), images)


def test_the_formulas_on_one_pixel():
    colour = torch.tensor([0.2, 0.4, 0.6])
    image, factor = colour[None, :, None, None].expand(1, 3, 2, 2), torch.tensor([1.5])
    grey = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6
    for change, expected in {
        change_gain: 1.5 * colour,
        change_gamma: colour**1.5,
        change_contrast: 0.4 + 1.5 * (colour - 0.4),
        change_saturation: grey + 1.5 * (colour - grey),
    }.items():
        torch.testing.assert_close(change(image, factor)[0, :, 1, 1], expected)
    torch.testing.assert_close(make_grey(image, torch.tensor([True]))[0, :, 1, 1], torch.full((3,), grey))


@given(seeds)
def test_grey_pictures_have_equal_channels_and_stay_grey(seed):
    images = pictures(seed)
    found = make_grey(images, torch.tensor([True, False, True]))
    for row in (0, 2):
        assert torch.equal(found[row, 0], found[row, 1]) and torch.equal(found[row, 1], found[row, 2])
    assert torch.equal(found[1], images[1])
    torch.testing.assert_close(change_saturation(found, torch.full((3,), 2.0))[0], found[0])
    torch.testing.assert_close(change_saturation(images, torch.zeros(3))[0], found[0])


@given(seeds, st.floats(0.05, 3.9))
def test_a_blur_keeps_the_mean_of_each_channel_and_takes_contrast_away(seed, radius):
    images = pictures(seed)
    found = blur(images, torch.tensor([radius, 0.0, radius]))
    torch.testing.assert_close(found.mean(dim=(2, 3)), images.mean(dim=(2, 3)))
    assert (found[0].std(dim=(1, 2)) <= images[0].std(dim=(1, 2)) + 1e-6).all()
    assert torch.equal(found[1], images[1])


@pytest.mark.parametrize("radius", [0.8, 1.5])
def test_a_blur_is_a_gaussian_of_its_radius(radius):
    point = torch.zeros(1, 3, 31, 41)
    point[0, :, 15, 20] = 1
    found = blur(point, torch.tensor([radius]))[0, 0]
    for axis, length, middle in ((0, 41, 20), (1, 31, 15)):
        line = found.sum(dim=axis).double()
        deviation = ((torch.arange(length) - middle) ** 2 * line).sum() ** 0.5
        assert deviation.item() == pytest.approx(radius, rel=0.03), "cut off at three radii"
        assert line.argmax() == middle
    assert torch.equal(found, found.flip(0)) and torch.equal(found, found.flip(1))


def test_noise_has_its_standard_deviation_and_differs_in_every_value():
    images = torch.full((2, 3, 60, 80), 0.5)
    found = add_noise(images, torch.tensor([0.02, 0.1]), torch.tensor([5, 6])) - 0.5
    assert found.mean().item() == pytest.approx(0, abs=0.003)
    assert found.std(dim=(1, 2, 3)).tolist() == pytest.approx([0.02, 0.1], rel=0.03)
    assert torch.equal(add_noise(images, torch.tensor([0.02, 0.1]), torch.tensor([5, 6])) - 0.5, found)
    first, again = add_noise(images, torch.tensor([0.1, 0.1]), torch.tensor([5, 5]))
    assert torch.equal(first, again), "the seed alone decides"
