"""AdaIN: the measured numbers of the published network, its weight files and its use as a stylist."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from formula_weights import formula_state

from segswap.errors import InputError
from segswap.pairs import adain
from segswap.pairs.adain import AdaIN, channel_statistics, exchange_statistics
from segswap.pairs.style import load_stylist

STRENGTHS = [0.0, 0.37, 1.0]


@pytest.fixture(scope="module")
def states(shared):
    """State dicts of encoder and decoder, weights by formula."""
    keys = json.loads((shared / "golden" / "i_state_dict_keys.json").read_text())
    return {part: formula_state(keys[part]) for part in ("vgg", "decoder")}


def scaled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Multiply every weight so that activations keep their size (He et al. 2015); biases stay."""
    return {
        key: value * np.float32(np.sqrt(2 / value[0].numel()) / 0.05) if key.endswith("weight") else value
        for key, value in state.items()
    }


def build(states: dict[str, dict[str, torch.Tensor]], folder, precision: str = "auto") -> AdaIN:
    """Load a network through weight files, as a user does."""
    for part, state in states.items():
        torch.save(state, folder / f"{part}.pth")
    return load_stylist("adain", folder / "vgg.pth", folder / "decoder.pth", "cpu", precision)


@pytest.fixture(scope="module")
def plain(states, tmp_path_factory):
    return build(states, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def lively(states, tmp_path_factory):
    """The network with outputs of the size of pictures."""
    return build({part: scaled(state) for part, state in states.items()}, tmp_path_factory.mktemp("lively"))


@pytest.fixture(scope="module")
def golden(shared):
    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(shared / "golden" / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays.items())

    return {"plain": read("i_adain"), "lively": read("i_adain_he")}


@torch.inference_mode()
def test_golden_features_statistics_and_exchange(plain, golden):
    arrays = golden["plain"]
    content, style = (plain.vgg(torch.from_numpy(arrays[name])) for name in ("content", "style"))
    np.testing.assert_allclose(content[0], arrays["relu4_1_content"], rtol=1e-5, atol=2e-5)
    statistics = channel_statistics(style)
    np.testing.assert_allclose(statistics[0, 0], arrays["relu4_1_style_mean"], atol=1e-5)
    # Measured without the constant of 1e-5 that the network adds to the variance.
    variance = arrays["relu4_1_style_std_unbiased"] ** 2
    np.testing.assert_allclose(statistics[0, 1], np.sqrt(variance + 1e-5), atol=1e-5)
    np.testing.assert_allclose(exchange_statistics(content, statistics)[0], arrays["adain"], rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("weights", ["plain", "lively"])
@torch.inference_mode()
def test_golden_output(request, golden, weights, strength):
    model, arrays = request.getfixturevalue(weights), golden[weights]
    content = model.vgg(torch.from_numpy(arrays["content"]))
    style = channel_statistics(model.vgg(torch.from_numpy(arrays["style"])))
    output = model.decoder(strength * exchange_statistics(content, style) + (1 - strength) * content)[0].numpy()
    expected = arrays[f"out_alpha_{strength}"]
    np.testing.assert_allclose(output, expected, atol=2e-5 * np.abs(expected).max())


@torch.inference_mode()
def test_exchange_gives_the_statistics_of_the_style():
    features, style = (torch.randn(2, 5, 7, 9, generator=torch.Generator().manual_seed(n)) * (n + 1) for n in (0, 1))
    exchanged = exchange_statistics(features, channel_statistics(style))
    np.testing.assert_allclose(channel_statistics(exchanged), channel_statistics(style), atol=1e-4)


# As a stylist


@pytest.fixture
def small_inside(monkeypatch):
    """Make the network work at a shorter side of 64, as measured, in the place of 512."""
    monkeypatch.setattr(adain, "_SHORTER_SIDE", 64)


def to_picture(batch: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.round(batch[0] * 255).astype(np.uint8).transpose(1, 2, 0))


@torch.inference_mode()
def test_stylise_is_encode_exchange_mix_decode_clamp(small_inside, lively, golden):
    content, style = (to_picture(golden["lively"][name]) for name in ("content", "style"))
    statistics = lively.statistics(style)
    assert (statistics.shape, statistics.dtype) == ((2, 512), np.float32)
    restyled = lively.stylise([content] * 3, [statistics] * 3, STRENGTHS)
    for strength, picture in zip(STRENGTHS, restyled, strict=True):
        assert (picture.shape, picture.dtype) == (content.shape, np.uint8)
        expected = golden["lively"][f"out_alpha_{strength}"].clip(0, 1).transpose(1, 2, 0) * 255
        # The pictures are rounded to bytes on the way in.
        assert np.abs(picture - expected).max() < 4


def test_each_picture_of_a_batch_takes_its_own_style(small_inside, lively, golden):
    content, style = (to_picture(golden["lively"][name]) for name in ("content", "style"))
    styles = [lively.statistics(style), lively.statistics(style // 3)]
    pictures = content, content // 2
    together = lively.stylise(pictures, styles, [1.0, 0.6])
    for n, picture in enumerate(pictures):
        (alone,) = lively.stylise([picture], [styles[n]], [(1.0, 0.6)[n]])
        assert np.abs(together[n].astype(int) - alone).max() <= 1


def test_pictures_come_back_at_their_own_size(small_inside, lively):
    picture = np.full((50, 75, 3), 128, np.uint8)
    (restyled,) = lively.stylise([picture], [lively.statistics(picture)], [0.5])
    assert restyled.shape == picture.shape


def test_a_picture_does_not_depend_on_the_batch_that_it_is_in(small_inside, lively, golden, monkeypatch):
    """Batches are filled up: alone, first, or in the rest, a picture has the same bytes."""
    content, style = (to_picture(golden["lively"][name]) for name in ("content", "style"))
    monkeypatch.setattr(AdaIN, "pictures_at_once", 4)
    pictures = [content // (n + 1) for n in range(6)]
    styles, strengths = [lively.statistics(style)] * 6, list(np.linspace(0, 1, 6))
    together = lively.stylise(pictures, styles, strengths)
    assert len(together) == 6
    for n in range(6):
        (alone,) = lively.stylise(pictures[n : n + 1], styles[:1], strengths[n : n + 1])
        np.testing.assert_array_equal(together[n], alone)


# Number formats


@pytest.fixture
def in_precision(states, tmp_path):
    """A function that loads the lively network with convolutions in a number format."""

    def load(precision: str) -> AdaIN:
        return build({part: scaled(state) for part, state in states.items()}, tmp_path, precision)

    return load


@pytest.mark.parametrize(("precision", "mean", "largest"), [("float16", 0.2, 2), ("bfloat16", 1, 12)])
def test_lower_precision_changes_pictures_by_few_grey_levels(
    small_inside, lively, in_precision, golden, precision, mean, largest
):
    content, style = (to_picture(golden["lively"][name]) for name in ("content", "style"))
    statistics = [lively.statistics(style)] * 3
    exact = np.stack(lively.stylise([content] * 3, statistics, STRENGTHS)).astype(int)
    model = in_precision(precision)
    assert model.description == f"adain {precision} cpu"
    found = np.stack(model.stylise([content] * 3, statistics, STRENGTHS))
    difference = np.abs(found - exact)
    assert 0 < difference.mean() < mean
    assert difference.max() <= largest


def test_statistics_are_always_computed_in_float32(small_inside, lively, in_precision, golden):
    style = to_picture(golden["lively"]["style"])
    np.testing.assert_array_equal(in_precision("bfloat16").statistics(style), lively.statistics(style))


def test_on_a_cpu_the_precision_is_float32_unless_told_otherwise(in_precision):
    assert in_precision("auto").precision == "float32"


def test_unknown_precision_is_an_error_that_lists_the_known(in_precision):
    with pytest.raises(InputError, match=r"style\.precision 'half': expected one of auto, float32, float16, bfloat16"):
        in_precision("half")


def test_number_out_of_range_is_an_error_that_names_the_remedy(small_inside, states, tmp_path, golden):
    """Activations of a million: fine in float32, infinite in float16."""
    state = {part: scaled(state) for part, state in states.items()}
    state["vgg"]["2.weight"] *= 1e6
    content = to_picture(golden["lively"]["content"])
    for precision in ("float32", "float16"):
        model = build(state, tmp_path, precision)
        statistics = [np.stack([np.zeros(512, np.float32), np.ones(512, np.float32)])]
        if precision == "float32":
            model.stylise([content], statistics, [1.0])
        else:
            with pytest.raises(InputError, match=r"style\.precision float16.*choose float32"):
                model.stylise([content], statistics, [1.0])


# Weight files


def test_entries_beyond_the_layers_in_use_are_dropped(states, tmp_path):
    extended = {**states["vgg"], "31.weight": torch.zeros(1), "52.bias": torch.zeros(1)}
    model = build({"vgg": extended, "decoder": states["decoder"]}, tmp_path)
    assert len(model.vgg) == 31


@pytest.fixture
def small_files(tmp_path):
    """Weight files of fresh networks."""
    torch.manual_seed(0)
    model = AdaIN()
    for part in ("vgg", "decoder"):
        torch.save(getattr(model, part).state_dict(), tmp_path / f"{part}.pth")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("1.bias"), r"decoder\.pth.*Missing: 1\.bias"),
        (lambda state: state.update({"77.weight": torch.zeros(1)}), r"decoder\.pth.*Unexpected: 77\.weight"),
        (lambda state: state.update({"1.bias": torch.zeros(3)}), r"decoder\.pth.*1\.bias: \(3,\) in the file"),
    ],
)
def test_weights_that_do_not_fit_are_listed(small_files, change, message):
    path = small_files / "decoder.pth"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    with pytest.raises(InputError, match=message):
        AdaIN.load(small_files / "vgg.pth", path, "cpu")


def test_weights_of_another_naming_are_listed(small_files):
    path = small_files / "vgg.pth"
    state = torch.load(path, weights_only=True)
    torch.save({f"features.{key}": value for key, value in state.items()}, path)
    with pytest.raises(InputError, match=r"vgg\.pth.*Missing: 0\.weight.*Unexpected: features\.0\.weight"):
        AdaIN.load(path, small_files / "decoder.pth", "cpu")


class Harmful:
    """An object that a weight file must not be able to make."""


@pytest.mark.parametrize("content", [None, b"", b"text", [1, 2], Harmful])
def test_file_that_holds_no_weights_is_an_error_that_names_it(small_files, content):
    path = small_files / "vgg.pth"
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content() if content is Harmful else content, path)
    with pytest.raises(InputError, match=r"vgg\.pth"):
        AdaIN.load(path, small_files / "decoder.pth", "cpu")
