"""Weight files: ours, the published one and those of others; what does not fit is an error that says why."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from formula_weights import formula_state, key_list
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from segswap.errors import InputError
from segswap.models.architectures import ARCHITECTURES, Architecture
from segswap.models.backbone import Backbone, BackboneSettings
from segswap.models.checkpoint import load_backbone, load_checkpoint, save_backbone, save_checkpoint, save_published
from segswap.models.forms import write_checkpoint, write_safetensors_file
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.weights import tensors_sha256, write_safetensors

TRUNK = BackboneSettings("resnet18", width=8)


def small_model(**trunk) -> SegSwap:
    torch.manual_seed(6)
    backbone = Backbone(BackboneSettings("resnet18", width=8, **trunk))
    return SegSwap(backbone, Transformer(TransformerSettings("tiny", backbone.channels, initialisation="matching")))


def assert_same_state(found: torch.nn.Module, expected: dict[str, torch.Tensor]) -> None:
    state = found.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())


@pytest.mark.parametrize("trunk", [{}, {"projection": 16}])
def test_a_checkpoint_comes_back_as_it_was_written(tmp_path, trunk):
    model = small_model(**trunk)
    about = {"stage": 1, "steps": 12, "seed": 3, "best": 0.25}
    save_checkpoint(tmp_path / "model.pt", model, about)
    loaded, said = load_checkpoint(tmp_path / "model.pt")
    assert said == about
    assert loaded.backbone.settings == model.backbone.settings
    assert loaded.matcher.settings == model.matcher.settings
    assert_same_state(loaded, model.state_dict())
    assert not any(module.training for module in loaded.modules())
    a, b = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        for found, expected in zip(loaded(a, b), model.eval()(a, b), strict=True):
            assert torch.equal(found, expected)


def test_a_checkpoint_holds_nothing_but_tensors_and_plain_values(tmp_path):
    save_checkpoint(tmp_path / "model.pt", small_model(), {})
    torch.load(tmp_path / "model.pt", weights_only=True)
    assert os.listdir(tmp_path) == ["model.pt"], "no temporary file stays"


def test_the_published_checkpoint_loads_by_name(shared, tmp_path):
    trunk = formula_state(key_list(shared, "backbone_sequential_conv1_to_layer3"))
    encoder = formula_state(key_list(shared, "encoder_small_1024"))
    torch.save({"backbone": trunk, "encoder": encoder, "optimiser": {"state": {}}}, tmp_path / "published.pth")
    model, about = load_checkpoint(tmp_path / "published.pth")
    assert about == {"origin": "published checkpoint", "image_size": 480}
    assert_same_state(model.matcher, encoder)
    assert torch.equal(model.backbone.conv1.weight, trunk["0.weight"])
    assert torch.equal(model.backbone.bn1.running_var, trunk["1.running_var"])
    assert torch.equal(model.backbone.layer3[5].conv3.weight, trunk["6.5.conv3.weight"])
    alone = load_backbone(tmp_path / "published.pth", BackboneSettings("resnet50"))
    assert_same_state(alone, model.backbone.state_dict())


def _with_head(state: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Add what whole networks have behind the trunk."""
    head = {"layer4.0.conv1.weight": torch.zeros(4, 4, 1, 1), "fc.weight": torch.zeros(5, 4), "fc.bias": torch.zeros(5)}
    return {prefix + key: value for key, value in {**state, **head}.items()}


def moco(state):
    query = _with_head(state, "module.encoder_q.")
    key = {name.replace("encoder_q", "encoder_k"): torch.zeros_like(value) for name, value in query.items()}
    return {"epoch": 800, "arch": "resnet50", "state_dict": query | key | {"module.queue": torch.zeros(4, 6)}}


LAYOUTS = {
    "MoCo v2": moco,
    "torchvision": _with_head,
    "under model": lambda state: {"model": _with_head(state)},
    "under state_dict": lambda state: {"state_dict": _with_head(state)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_trunk_loads_from_every_known_layout(tmp_path, layout):
    state = small_model().backbone.state_dict()
    torch.save(LAYOUTS[layout](state), tmp_path / "weights.pth.tar")
    assert_same_state(load_backbone(tmp_path / "weights.pth.tar", TRUNK), state)


def test_the_published_form_is_written_back_as_it_was_read(shared, tmp_path):
    """Names, shapes and values, the optimiser apart."""
    content = {
        "backbone": formula_state(key_list(shared, "backbone_sequential_conv1_to_layer3")),
        "encoder": formula_state(key_list(shared, "encoder_small_1024")),
    }
    torch.save({**content, "optimiser": {"state": {}}}, tmp_path / "published.pth")
    model, _ = load_checkpoint(tmp_path / "published.pth")
    save_published(tmp_path / "again.pth", model)
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert set(again) == {"backbone", "encoder", "optimiser", "about"}
    for part in content:
        assert list(again[part]) == list(content[part])
        assert all(torch.equal(again[part][name], value) for name, value in content[part].items())


@pytest.mark.parametrize("trunk", [TRUNK, BackboneSettings("resnet50", projection=16), BackboneSettings("resnet50")])
def test_a_model_that_the_published_form_cannot_hold_is_an_error(tmp_path, trunk):
    backbone = Backbone(trunk)
    model = SegSwap(backbone, Transformer(TransformerSettings("tiny", backbone.channels)))
    with pytest.raises(
        InputError, match=rf"out\.pth: the published form holds a plain ResNet-50.*{trunk.architecture}"
    ):
        save_published(tmp_path / "out.pth", model)
    assert not (tmp_path / "out.pth").exists()


def test_what_a_model_says_of_itself_goes_through_the_published_form(tmp_path):
    about = {"stage": 2, "image_size": 320, "numerics": {"precision": "float32"}}
    model = SegSwap(
        Backbone(BackboneSettings("resnet50")), Transformer(TransformerSettings("small", 1024)), {"stage": 1}
    )
    save_checkpoint(tmp_path / "ours.pt", model, about)
    save_published(tmp_path / "published.pth", load_checkpoint(tmp_path / "ours.pt")[0])
    found, said = load_checkpoint(tmp_path / "published.pth")
    assert said == about and found.about == about
    assert_same_state(found, model.state_dict())


def test_a_trunk_of_ours_comes_back_as_it_was_written(tmp_path):
    backbone = small_model(projection=16).backbone
    save_backbone(tmp_path / "trunk.pt", backbone)
    assert_same_state(load_backbone(tmp_path / "trunk.pt", backbone.settings), backbone.state_dict())


def test_weights_of_another_size_are_an_error_that_lists_names_and_shapes(tmp_path):
    save_backbone(tmp_path / "trunk.pt", small_model().backbone)
    with pytest.raises(InputError) as caught:
        load_backbone(tmp_path / "trunk.pt", BackboneSettings("resnet34", width=16, projection=24))
    message = str(caught.value)
    assert str(tmp_path / "trunk.pt") in message
    assert "Missing: layer1.2.conv1.weight" in message and "more" in message
    assert "Unexpected: none" in message
    assert "conv1.weight: (8, 3, 7, 7) in the file, (16, 3, 7, 7) in the model" in message
    with pytest.raises(InputError, match=r"Unexpected: layer1\.1\.conv1\.weight"):
        load_backbone(tmp_path / "trunk.pt", BackboneSettings("resnet10", width=8))


def test_a_checkpoint_that_does_not_fit_its_own_settings_is_an_error(tmp_path):
    save_checkpoint(tmp_path / "model.pt", small_model(), {})
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    del content["matcher"]["net.final_linear.bias"]
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"Missing: net\.final_linear\.bias"):
        load_checkpoint(tmp_path / "model.pt")


def changed(path: Path, **values) -> Path:
    """Write a checkpoint of ours with other values, or none where they are None."""
    content = {**torch.load(path, weights_only=True), **values}
    torch.save({name: value for name, value in content.items() if value is not None}, path)
    return path


def test_a_model_of_an_unknown_architecture_is_an_error_that_names_the_known_ones(tmp_path):
    save_checkpoint(tmp_path / "model.pt", small_model(), {})
    with pytest.raises(InputError, match=r"model\.pt: a model of the architecture 'eyesight'; .* knows .*transformer"):
        load_checkpoint(changed(tmp_path / "model.pt", architecture="eyesight"))


@dataclasses.dataclass(frozen=True)
class _ShareSettings:
    share: float


class _Share(torch.nn.Module):
    """A matcher that has one weight, and sees the same share everywhere."""

    def __init__(self, settings: _ShareSettings) -> None:
        super().__init__()
        self.settings = settings
        self.weight = torch.nn.Parameter(torch.tensor(settings.share))

    def forward(self, x, y):
        return [self.weight.expand(len(each), 3, *each.shape[2:]) for each in (x, y)]


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_the_architecture_in_the_file_decides_which_matcher_is_built(tmp_path, monkeypatch, name):
    monkeypatch.setitem(ARCHITECTURES, "share", Architecture(_Share, _ShareSettings))
    model = SegSwap(small_model().backbone, _Share(_ShareSettings(0.25)), {"stage": 0})
    with torch.no_grad():
        model.matcher.weight.fill_(0.75)
    write = write_checkpoint if name.endswith(".pt") else write_safetensors_file
    write(tmp_path / name, model.contents())
    found, _ = load_checkpoint(tmp_path / name)
    assert type(found.matcher) is _Share and found.matcher.settings == _ShareSettings(0.25)
    assert (found(torch.rand(2, 3, 32, 48), torch.rand(2, 3, 16, 16))[0] == 0.75).all()
    monkeypatch.undo()
    with pytest.raises(InputError, match=rf"{name}: a model of the architecture 'share'"):
        load_checkpoint(tmp_path / name)
    with pytest.raises(ValueError, match="_Share: no architecture"):
        model.contents()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"backbone_settings": {"architecture": "resnet99"}}, "KeyError: 'resnet99'"),
        ({"backbone_settings": {"architecture": "resnet18", "depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"backbone_settings": {"architecture": "resnet18", "width": -8}}, "negative dimension"),
        ({"matcher_settings": {"size": "vast", "channels": 32}}, "KeyError: 'vast'"),
        ({"matcher_settings": {"size": "tiny", "channels": 32, "dropout": 7}}, "dropout probability"),
    ],
    ids=str,
)
def test_settings_that_make_no_model_are_an_error(tmp_path, settings, reason):
    save_checkpoint(tmp_path / "model.pt", small_model(), {})
    with pytest.raises(InputError, match=rf"model\.pt: its settings make no model of this version \(.*{reason}"):
        load_checkpoint(changed(tmp_path / "model.pt", **settings))


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"architecture": None}, "architecture"),
        ({"about": [1], "matcher_settings": None}, "matcher_settings, about"),
        ({"backbone": None, "matcher": {"net": "none"}}, "backbone, matcher"),
    ],
    ids=str,
)
def test_a_checkpoint_without_its_parts_is_an_error_that_names_them(tmp_path, values, names):
    save_checkpoint(tmp_path / "model.pt", small_model(), {})
    with pytest.raises(InputError, match=rf"model\.pt: {names} missing, or not what segswap-1 has there"):
        load_checkpoint(changed(tmp_path / "model.pt", **values))


# Safetensors


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


def test_a_foreign_dictionary_is_an_error_that_says_what_was_expected(tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt: keys \['weights'\]; expected a checkpoint of this project"):
        load_checkpoint(tmp_path / "other.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(InputError, match="holds a Tensor, expected a dictionary"):
        load_checkpoint(tmp_path / "tensor.pt")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_one_flipped_bit_of_a_weight_is_noticed(tmp_path, share):
    """PyTorch reads such a file as if nothing were."""
    path = tmp_path / "model.pt"
    save_checkpoint(path, small_model(), {})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        weights = [info for info in archive.infolist() if "/data/" in info.filename and info.file_size > 1000]
    weight = weights[int(share * len(weights))]
    # Behind its header, whose lengths of name and padding lie at its bytes 26 to 29.
    start = weight.header_offset
    start += 30 + int.from_bytes(data[start + 26 : start + 28], "little")
    start += int.from_bytes(data[weight.header_offset + 28 : weight.header_offset + 30], "little")
    data[start + weight.file_size // 2] ^= 1
    path.write_bytes(data)
    torch.load(path, weights_only=True)
    with pytest.raises(InputError, match=r"model\.pt: .*have changed since it was written.*delete it and run again"):
        load_checkpoint(path)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "text"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, damage):
    path = tmp_path / "model.pt"
    save_checkpoint(path, small_model(), {})
    whole = path.read_bytes()
    content = {"empty": b"", "cut short": whole[: len(whole) // 2], "text": b"<html>not found</html>"}
    path.unlink() if damage == "missing" else path.write_bytes(content[damage])
    with pytest.raises(InputError, match=r"model\.pt"):
        load_checkpoint(path)


class _Command:
    """Its pickle runs a command when it is loaded without care."""

    def __init__(self, marker) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_a_file_with_code_in_it_is_refused_and_not_run(tmp_path, write):
    marker = tmp_path / "was run"
    write({"backbone": {}, "encoder": _Command(marker)}, tmp_path / "evil.pth")
    for load in (load_checkpoint, lambda path: load_backbone(path, TRUNK)):
        with pytest.raises(
            InputError, match=r"evil\.pth: not readable as a weight file \(it is none, or holds more than tensors"
        ):
            load(tmp_path / "evil.pth")
    assert not marker.exists()
