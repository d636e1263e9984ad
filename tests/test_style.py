"""Restyling by colour statistics, the statistics file and the draw of styles."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap.errors import InputError
from segswap.images import encode_jpeg, read_image
from segswap.listing import list_images
from segswap.pairs.style import (
    METHODS,
    Reinhard,
    StyleStatistics,
    compute_style_statistics,
    draw_styles,
    load_stylist,
    open_style,
)
from segswap.randomness import generator


def muted(seed: int, shape: tuple[int, int] = (40, 56)) -> np.ndarray:
    """Return a picture of muted colours, RGB uint8: restyled with another of the kind it stays within range."""
    rng = generator(seed, "muted")
    return np.clip(rng.uniform(100, 150, 3) + rng.normal(0, 9, (*shape, 3)), 0, 255).astype(np.uint8)


def lab_statistics(image: np.ndarray) -> np.ndarray:
    """Return means and deviations over a picture in CIE Lab, (2, 3), computed the long way."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab).reshape(-1, 3).astype(float)
    return np.stack([lab.mean(0), lab.std(0)])


@pytest.mark.parametrize("seed", range(4))
def test_statistics_are_mean_and_deviation_in_lab(seed):
    found = Reinhard().statistics(muted(seed))
    assert (found.shape, found.dtype) == ((2, 3), np.float32)
    np.testing.assert_allclose(found, lab_statistics(muted(seed)), atol=1e-3)


@given(seed=st.integers(0, 99))
def test_strength_0_gives_the_picture_itself(seed):
    picture = generator(seed, "any").integers(0, 256, (12, 15, 3), np.uint8)
    (restyled,) = Reinhard().stylise([picture], [Reinhard().statistics(muted(seed))], [0.0])
    assert np.abs(restyled.astype(int) - picture).max() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_strength_1_gives_the_statistics_of_the_style(seed):
    style = Reinhard().statistics(muted(seed + 10))
    (restyled,) = Reinhard().stylise([muted(seed)], [style], [1.0])
    np.testing.assert_allclose(lab_statistics(restyled), style, atol=0.3)


def test_strength_between_lies_between():
    picture, style = muted(1), Reinhard().statistics(muted(12))
    images = Reinhard().stylise([picture] * 3, [style] * 3, [0.0, 0.5, 1.0])
    means = [lab_statistics(image)[0] for image in images]
    np.testing.assert_allclose(means[1], (means[0] + means[2]) / 2, atol=0.3)


def test_every_picture_takes_its_own_style_and_strength_whatever_their_sizes():
    pictures = [muted(1), muted(2, (30, 31)), muted(3, (16, 64))]
    styles, strengths = [Reinhard().statistics(muted(n)) for n in (4, 5, 6)], [0.2, 0.9, 0.5]
    together = Reinhard().stylise(pictures, styles, strengths)
    for n, restyled in enumerate(together):
        (alone,) = Reinhard().stylise(pictures[n : n + 1], styles[n : n + 1], strengths[n : n + 1])
        assert (restyled.shape, restyled.dtype) == (pictures[n].shape, np.uint8)
        np.testing.assert_array_equal(restyled, alone)


def test_flat_picture_takes_the_mean_and_stays_flat():
    (restyled,) = Reinhard().stylise([np.full((8, 8, 3), 90, np.uint8)], [Reinhard().statistics(muted(3))], [1.0])
    assert (restyled == restyled[0, 0]).all()
    np.testing.assert_allclose(lab_statistics(restyled)[0], lab_statistics(muted(3))[0], atol=0.5)


# The statistics file


def test_statistics_file_holds_every_picture_of_the_folder(tiny_world):
    styles = tiny_world.styles()
    paths = list_images(tiny_world.style_images)
    assert list(styles.names) == [path.name for path in paths]
    assert (styles.values.shape, styles.values.dtype) == ((len(paths), 2, 3), np.float32)
    for path in paths:
        np.testing.assert_array_equal(styles.of(path.name), Reinhard().statistics(read_image(path)))


def test_broken_pictures_are_skipped_and_named(tmp_path, capsys):
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(encode_jpeg(muted(1)))
    (tmp_path / "b.jpg").write_bytes(b"broken")
    compute_style_statistics(tmp_path, tmp_path / "out" / "styles.npz", Reinhard())
    assert StyleStatistics.read(tmp_path / "out" / "styles.npz").names == ("a.jpg", "c.jpg")
    assert "b.jpg" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"broken"])
def test_folder_without_a_picture_that_opens_is_an_error_that_names_it(tmp_path, content):
    folder = tmp_path / "mystyles"
    folder.mkdir()
    if content is not None:
        (folder / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match="mystyles"):
        compute_style_statistics(folder, tmp_path / "styles.npz", Reinhard())
    assert not (tmp_path / "styles.npz").exists()


def foreign_archive(path) -> None:
    np.savez(path, other=np.arange(3))


def pickled_archive(path) -> None:
    np.savez(path, names=np.array([{"a": 1}], dtype=object), statistics=np.zeros((1, 2, 3)))


@pytest.mark.parametrize(
    "write",
    [
        None,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"text"),
        lambda path: path.write_bytes(b"PK\x03\x04 cut"),
        foreign_archive,
        pickled_archive,
    ],
    ids=["missing", "empty", "text", "cut", "foreign", "pickled"],
)
def test_unreadable_statistics_file_is_an_error_that_names_it(tmp_path, write):
    path = tmp_path / "styles.npz"
    if write:
        write(path)
    with pytest.raises(InputError, match=r"styles\.npz"):
        StyleStatistics.read(path)


# Drawing styles and choosing a method


def test_styles_are_a_function_of_the_address(tiny_world):
    styles = tiny_world.styles()
    draws = [draw_styles(styles, 1, kind, index) for kind in ("1obj", "2obj") for index in range(100)]
    again = [draw_styles(styles, 1, kind, index) for kind in ("1obj", "2obj") for index in range(100)]
    assert draws == again
    assert len(set(draws)) == len(draws)
    assert draw_styles(styles, 2, "1obj", 0) != draws[0]


def test_styles_are_uniform_over_the_folder_and_strengths_over_0_to_1(tiny_world):
    styles = tiny_world.styles()
    choices = [choice for index in range(600) for choice in draw_styles(styles, 1, "1obj", index)]
    counts = np.array([sum(choice.name == name for choice in choices) for name in styles.names])
    expected = len(choices) / len(styles.names)
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
    strengths = np.array([choice.strength for choice in choices])
    quartiles = np.quantile(strengths, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quartiles, [0, 0.25, 0.5, 0.75, 1], atol=0.07)


def test_both_pictures_of_a_pair_have_styles_of_their_own(tiny_world):
    pairs = [draw_styles(tiny_world.styles(), 1, "1obj", index) for index in range(100)]
    assert all(a.strength != b.strength for a, b in pairs)
    assert any(a.name != b.name for a, b in pairs)


def test_methods_are_found_by_name():
    assert load_stylist("none") is None
    assert isinstance(load_stylist("reinhard"), Reinhard)


def test_a_style_is_opened_with_its_statistics(tiny_world):
    assert open_style("none", None, None, None, "auto", "auto") == (None, None)
    stylist, styles = open_style("reinhard", tiny_world.style_statistics, None, None, "auto", "auto")
    assert isinstance(stylist, Reinhard) and styles.names == tiny_world.styles().names


@pytest.mark.parametrize("weights", [{}, {"vgg": "vgg.pth"}, {"decoder": "decoder.pth"}])
def test_adain_without_weights_is_an_error_that_names_the_keys(weights):
    with pytest.raises(InputError, match=r"style\.vgg and style\.decoder"):
        load_stylist("adain", **weights)


def test_unknown_method_is_an_error_that_lists_the_known():
    with pytest.raises(InputError, match=", ".join(METHODS)):
        load_stylist("gatys")
