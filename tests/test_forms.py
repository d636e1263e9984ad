"""Models as safetensors: a file says itself what it holds, and no damage goes unnoticed."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from segswap.errors import InputError
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import load_checkpoint
from segswap.models.forms import write_safetensors_file
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.weights import tensors_sha256, write_safetensors

TRUNK = ResNetSettings("resnet18", width=8)


def small_model() -> SegSwap:
    torch.manual_seed(6)
    backbone = ResNet(TRUNK)
    return SegSwap(backbone, Transformer(TransformerSettings("tiny", backbone.channels, initialisation="matching")))


def assert_same_state(found: torch.nn.Module, expected: dict[str, torch.Tensor]) -> None:
    state = found.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A model of 0.4 million weights as a safetensors file. Read only."""
    path = tmp_path_factory.mktemp("written") / "model.safetensors"
    write_safetensors_file(path, small_model().contents({"stage": 2, "image_size": 160, "best": 0.1 + 0.2}))
    return path


def header(path: Path) -> dict:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_a_safetensors_file_says_itself_what_it_holds(written):
    found, about = load_checkpoint(written)
    assert about == {"stage": 2, "image_size": 160, "best": 0.1 + 0.2}
    assert_same_state(found, small_model().state_dict())
    assert found.backbone.settings == TRUNK and found.matcher.settings.initialisation == "matching"
    assert not any(module.training for module in found.modules())
    # Any program can read it: the format's own names, and JSON.
    said = json.loads(header(written)["__metadata__"]["segswap"])
    assert (said["architecture"], said["backbone_settings"]["width"]) == ("transformer", 8)
    assert len(said["sha256"]) == 64
    assert set(load_file(written)) == set(small_model().state_dict())


def test_equal_models_give_equal_bytes(tmp_path, written):
    model, about = load_checkpoint(written)
    model.backbone.to(memory_format=torch.contiguous_format)
    for attempt in range(4):
        # Where the format has several keys for metadata, their order is random.
        write_safetensors_file(tmp_path / "again.safetensors", model.contents(dict(reversed(about.items()))))
        assert (tmp_path / "again.safetensors").read_bytes() == written.read_bytes(), attempt


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), in_header=st.booleans())
def test_any_flipped_bit_is_noticed(tmp_path_factory, written, place, bit, in_header):
    """The format itself has no checksum. Only the JSON's own blanks may change without a word."""
    data = bytearray(written.read_bytes())
    end = 8 + int.from_bytes(data[:8], "little") if in_header else len(data)
    data[int(place * end)] ^= 1 << bit
    path = tmp_path_factory.mktemp("flipped") / "model.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        found, about = load_checkpoint(path)
        assert about == load_checkpoint(written)[1]
        assert_same_state(found, small_model().state_dict())
        assert header(path) == header(written)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_safetensors_file_cut_short_is_an_error_with_a_remedy(tmp_path, written, share):
    data = written.read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"model\.safetensors: not readable as safetensors \(.*download it again"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_a_pointer_of_git_lfs_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match=r"not readable as safetensors .*git lfs pull"):
        load_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_weights_that_do_not_say_what_they_are_are_an_error(tmp_path, metadata):
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors", metadata)
    with pytest.raises(InputError, match=r"other\.safetensors: its metadata has no 'segswap'.*export CHECKPOINT"):
        load_checkpoint(tmp_path / "other.safetensors")


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null", '{"format": 1}'])
def test_a_description_that_is_none_is_an_error(tmp_path, text):
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors", {"segswap": text})
    with pytest.raises(InputError, match=r"other\.safetensors: what it says about itself is not readable"):
        load_checkpoint(tmp_path / "other.safetensors")


def rewritten(path: Path, tensors: dict[str, torch.Tensor], **values) -> Path:
    """Write a safetensors file that is whole, but of other tensors or another description."""
    description = {**small_model().contents({}).description(), **values}
    write_safetensors(path, {**small_model().state_dict(), **tensors}, description)
    return path


@pytest.mark.parametrize(
    ("tensors", "values", "message"),
    [
        ({"matcher.net.final_linear.bias": torch.zeros(4)}, {}, r"bias: \(4,\) in the file, \(3,\) in the model"),
        ({"matcher.net.other": torch.zeros(4)}, {}, r"Unexpected: net\.other"),
        ({"optimiser.step": torch.zeros(4)}, {}, "holds 'optimiser.step'; expected names that begin with backbone"),
        ({}, {"matcher_settings": {"size": "base", "channels": 32}}, "weights do not fit the model"),
        ({}, {"architecture": "eyesight"}, "a model of the architecture 'eyesight'"),
        ({}, {"format": "segswap-9"}, "in the format 'segswap-9'; .* reads 'segswap-1'"),
        ({}, {"about": None}, "about missing"),
    ],
    ids=str,
)
def test_a_whole_file_that_does_not_fit_is_an_error(tmp_path, tensors, values, message):
    with pytest.raises(InputError, match=rf"model\.safetensors: .*{message}"):
        load_checkpoint(rewritten(tmp_path / "model.safetensors", tensors, **values))


def test_numbers_that_json_does_not_know_are_null(tmp_path):
    """A stage that ended before its first validation has a best score of minus infinity."""
    model = small_model()
    write_safetensors_file(tmp_path / "a.safetensors", model.contents({"best": -math.inf, "at": {"loss": math.nan}}))
    assert load_checkpoint(tmp_path / "a.safetensors")[1] == {"best": None, "at": {"loss": None}}


def test_the_digest_of_tensors_tells_names_types_and_shapes_apart():
    tensors = {
        "a": torch.arange(6.0),
        "b": torch.tensor(3, dtype=torch.int64),
        "c": torch.ones(2, dtype=torch.bfloat16),
    }
    expected = tensors_sha256(tensors)
    assert tensors_sha256(dict(reversed(tensors.items()))) == expected
    image = torch.rand(2, 3, 4, 5)
    assert tensors_sha256({"a": image}) == tensors_sha256({"a": image.to(memory_format=torch.channels_last)})
    others = (
        {"d" if name == "a" else name: value for name, value in tensors.items()},
        {**tensors, "a": tensors["a"].view(2, 3)},
        {**tensors, "a": tensors["a"].view(torch.int32)},
        {**tensors, "c": -tensors["c"]},
    )
    assert len({expected, *map(tensors_sha256, others)}) == 5
