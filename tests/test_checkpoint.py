"""Weight files: ours, the published one and those of others; what does not fit is an error that says why."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from bounded_memory import bounded_memory
from formula_weights import formula_state, key_list
from hypothesis import given, settings
from hypothesis import strategies as st

from segswap.errors import InputError
from segswap.models.architectures import ARCHITECTURES, Architecture
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import load_backbone, load_checkpoint, save_backbone, save_checkpoint, save_published
from segswap.models.forms import FORMAT, Contents, write_checkpoint, write_safetensors_file
from segswap.models.ncnet import NcNet, NcNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings

TRUNK = ResNetSettings("resnet18", width=8)


def small_model(**trunk) -> SegSwap:
    torch.manual_seed(6)
    backbone = ResNet(ResNetSettings("resnet18", width=8, **trunk))
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
    alone = load_backbone(tmp_path / "published.pth", ResNetSettings("resnet50"))
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


@pytest.mark.parametrize("trunk", [TRUNK, ResNetSettings("resnet50", projection=16), ResNetSettings("resnet50")])
def test_a_model_that_the_published_form_cannot_hold_is_an_error(tmp_path, trunk):
    backbone = ResNet(trunk)
    model = SegSwap(backbone, Transformer(TransformerSettings("tiny", backbone.channels)))
    with pytest.raises(
        InputError, match=rf"out\.pth: the published form holds a plain ResNet-50.*{trunk.architecture}"
    ):
        save_published(tmp_path / "out.pth", model)
    assert not (tmp_path / "out.pth").exists()


def test_what_a_model_says_of_itself_goes_through_the_published_form(tmp_path):
    about = {"stage": 2, "image_size": 320, "numerics": {"precision": "float32"}}
    model = SegSwap(ResNet(ResNetSettings("resnet50")), Transformer(TransformerSettings("small", 1024)), {"stage": 1})
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
        load_backbone(tmp_path / "trunk.pt", ResNetSettings("resnet34", width=16, projection=24))
    message = str(caught.value)
    assert str(tmp_path / "trunk.pt") in message
    assert "Missing: layer1.2.conv1.weight" in message and "more" in message
    assert "Unexpected: none" in message
    assert "conv1.weight: (8, 3, 7, 7) in the file, (16, 3, 7, 7) in the model" in message
    with pytest.raises(InputError, match=r"Unexpected: layer1\.1\.conv1\.weight"):
        load_backbone(tmp_path / "trunk.pt", ResNetSettings("resnet10", width=8))


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
    ("values", "reason"),
    [
        ({"backbone_settings": {"architecture": "resnet99"}}, "backbone.architecture: 'resnet99'; expected one of"),
        ({"backbone_settings": {"architecture": "resnet18", "depth": 3}}, "backbone.depth: unknown; resnet18 has"),
        ({"backbone_settings": {"architecture": "resnet18", "width": -8}}, "negative dimension"),
        ({"matcher_settings": {"size": "vast", "channels": 32}}, "KeyError: 'vast'"),
        ({"matcher_settings": {"size": "tiny", "channels": 32, "dropout": 7}}, "dropout probability"),
        ({"backbone_settings": {"architecture": ["resnet18"]}}, "expected one of"),
        ({"architecture": "ncnet", "matcher_settings": {"channels": 32, "top_k": 0, "width": 0}}, "negative power"),
    ],
    ids=str,
)
def test_settings_that_make_no_model_are_an_error(tmp_path, values, reason):
    save_checkpoint(tmp_path / "model.pt", small_model(), {})
    with pytest.raises(InputError, match=rf"model\.pt: its settings make no model of this version \(.*{reason}"):
        load_checkpoint(changed(tmp_path / "model.pt", **values))


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


def test_settings_that_ask_for_any_memory_are_an_error_that_takes_none(tmp_path):
    save_checkpoint(tmp_path / "model.pt", small_model(), {})
    large = {"backbone_settings": {"architecture": "resnet18", "width": 1 << 16}}
    with bounded_memory(500), pytest.raises(InputError, match=r"model\.pt: weights do not fit the model"):
        load_checkpoint(changed(tmp_path / "model.pt", **large))


NO_STATES = {
    "names that are none": lambda state: {None: torch.zeros(1), **state},
    "numbers elsewhere": lambda state: {**state, "conv1.weight": torch.empty(8, 3, 7, 7, device="meta")},
    "few numbers of many": lambda state: {**state, "conv1.weight": torch.zeros(8, 3, 7, 7).to_sparse()},
    "complex numbers": lambda state: {**state, "conv1.weight": torch.zeros(8, 3, 7, 7, dtype=torch.complex64)},
    "a tensor": lambda state: torch.zeros(3),
}


@pytest.mark.parametrize("kind", NO_STATES)
def test_what_is_no_plain_tensors_by_name_is_an_error(tmp_path, kind):
    model = small_model()
    save_checkpoint(tmp_path / "model.pt", model, {})
    state = NO_STATES[kind](model.backbone.state_dict())
    with pytest.raises(InputError, match=r"model\.pt: backbone missing, or not what segswap-1 has there"):
        load_checkpoint(changed(tmp_path / "model.pt", backbone=state))
    torch.save({"backbone": state}, tmp_path / "backbone.pt")
    with pytest.raises(InputError, match=r"backbone\.pt: .*(expected tensors by name|is none, or holds)"):
        load_backbone(tmp_path / "backbone.pt", TRUNK)
    torch.save({"backbone": state, "encoder": model.matcher.state_dict()}, tmp_path / "published.pth")
    with pytest.raises(InputError, match=r"published\.pth: "):
        load_checkpoint(tmp_path / "published.pth")


@pytest.mark.parametrize("said", ["resnet18", torch.zeros(2), {"architecture": {"a": 1}}, {}], ids=str)
def test_settings_of_a_backbone_that_are_none_are_an_error(tmp_path, said):
    torch.save({"backbone": small_model().backbone.state_dict(), "backbone_settings": said}, tmp_path / "backbone.pt")
    with pytest.raises(InputError, match=r"backbone\.pt: its settings make no model of this version \(backbone\.arch"):
        load_backbone(tmp_path / "backbone.pt", TRUNK)


def test_a_compressed_file_is_refused_before_it_grows(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50 << 20))
    with (
        bounded_memory(30),
        pytest.raises(InputError, match=r"model\.pt: .*data\.pkl is compressed, which torch\.save"),
    ):
        load_checkpoint(tmp_path / "model.pt")


def _rezipped(path: Path, changes: list[tuple[float, bytes]]) -> None:
    """Change bytes of the pickle in a file of ``torch.save``, whose checksums are right again."""
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            content = _overwritten(data, changes) if name.endswith("data.pkl") else data
            archive.writestr(name, content)


def _overwritten(data: bytes, changes: list[tuple[float, bytes]]) -> bytes:
    changed = bytearray(data)
    for place, value in changes:
        at = int(place * len(changed))
        changed[at : at + len(value)] = value
    return bytes(changed)


FEW_CHANGES = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["model.pt", "model.safetensors", "pickle of model.pt", "legacy.pt"])
@given(changes=FEW_CHANGES)
@settings(max_examples=12, deadline=None)
def test_whatever_the_bytes_are_they_are_a_model_or_an_error(tmp_path_factory, form, changes):
    path = tmp_path_factory.mktemp("any") / form.rpartition(" ")[2]
    torch.manual_seed(0)
    model = SegSwap(ResNet(ResNetSettings("resnet10", 8, 16)), NcNet(NcNetSettings(16, 0, 2)))
    if form == "legacy.pt":
        content = {field.name: getattr(model.contents({}), field.name) for field in dataclasses.fields(Contents)}
        torch.save({"format": FORMAT, **content}, path, _use_new_zipfile_serialization=False)
    elif form == "model.safetensors":
        write_safetensors_file(path, model.contents({}))
    else:
        save_checkpoint(path, model, {})
    if form.startswith("pickle"):
        _rezipped(path, changes)
    else:
        path.write_bytes(_overwritten(path.read_bytes(), changes))
    with bounded_memory(500), contextlib.suppress(InputError):
        load_checkpoint(path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_an_error_without_a_warning_before_it(tmp_path, protocol):
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"a": 1}, protocol=protocol))
    with pytest.raises(InputError, match=r"model\.pt: not readable as a weight file"):
        load_checkpoint(tmp_path / "model.pt")


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
