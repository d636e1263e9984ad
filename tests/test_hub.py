"""Folders of ``save_pretrained``, and the Hugging Face hub behind them: what lies here never touches the network."""

from __future__ import annotations

import errno
import json
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, errors

import segswap
from segswap.errors import InputError
from segswap.models import hub
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import load_checkpoint, save_checkpoint
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings

ABOUT = {
    "stage": 2,
    "steps": 70,
    "image_size": 160,
    "select": "roc_auc",
    "best": 0.9726,
    "numerics": {"compile": "never"},
}


@pytest.fixture(scope="module")
def model() -> SegSwap:
    torch.manual_seed(2)
    backbone = ResNet(ResNetSettings("resnet10", 8, 16))
    return SegSwap(backbone, Transformer(TransformerSettings("tiny", 16, 0.0, "matching")), ABOUT)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    """The model's folder. Read only."""
    folder = tmp_path_factory.mktemp("hub") / "my-model"
    assert model.save_pretrained(folder) is None
    return folder


@pytest.fixture
def network(monkeypatch) -> list[str]:
    """What is asked of the hub; nothing is there."""
    asked = []

    def download(repository: str, **_) -> str:
        asked.append(repository)
        raise errors.LocalEntryNotFoundError("not there")

    monkeypatch.setattr(hub, "snapshot_download", download)
    return asked


def assert_same_model(found: SegSwap, expected: SegSwap) -> None:
    state = found.state_dict()
    assert state.keys() == expected.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in expected.state_dict().items())
    assert found.about == expected.about and found.matcher.settings == expected.matcher.settings
    assert not any(module.training for module in found.modules())


# Folders


def test_a_folder_comes_back_as_the_model_was(model, saved, network):
    assert {path.name for path in saved.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    for source in (saved, str(saved), saved / "model.safetensors"):
        assert_same_model(SegSwap.from_pretrained(source), model)
        found, about = load_checkpoint(source)
        assert_same_model(found, model)
        assert about == ABOUT
    a, b = torch.rand(1, 3, 64, 80), torch.rand(1, 3, 48, 64)
    with torch.inference_mode():
        for maps, expected in zip(SegSwap.from_pretrained(saved)(a, b), model.eval()(a, b), strict=True):
            assert torch.equal(maps, expected)
    assert network == []


def test_the_description_is_there_for_other_programs(saved):
    said = json.loads((saved / "config.json").read_text())
    assert said["architecture"] == "transformer" and said["about"] == ABOUT
    assert said["backbone_settings"] == {"architecture": "resnet10", "width": 8, "projection": 16}


def test_a_folder_without_description_loads_and_one_with_another_is_an_error(model, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "copy")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said))
    assert_same_model(SegSwap.from_pretrained(folder), model)
    said["about"]["image_size"] = 480
    (folder / "config.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=r"copy/config\.json: says something else than model\.safetensors.*delete"):
        SegSwap.from_pretrained(folder)
    (folder / "config.json").unlink()
    assert_same_model(SegSwap.from_pretrained(folder), model)


def test_a_folder_without_weights_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"holds no model\.safetensors; expected a folder that save_pretrained"):
        SegSwap.from_pretrained(tmp_path)


def test_a_model_saved_over_another_takes_its_place_and_a_card_stays(model, saved, tmp_path):
    other = SegSwap(ResNet(ResNetSettings("resnet10", 16)), Transformer(TransformerSettings("tiny", 64)))
    folder = tmp_path / "folder"
    other.save_pretrained(folder)
    (folder / "README.md").write_text("what I have written")
    model.save_pretrained(folder)
    assert_same_model(SegSwap.from_pretrained(folder), model)
    assert (folder / "README.md").read_text() == "what I have written"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


# What is a path, and what a name in the hub


@pytest.mark.parametrize(
    "source",
    [
        "stage2.pt",
        "checkpoints/stage2.pt",
        "owner/model.safetensors",
        "results/demo/checkpoints/stage2",
        "here/stage2",
        "./stage2",
        "../stage2",
        "~/stage2",
        "/stage2",
        "owner/",
        "two words/model",
        "owner/mödel",
        "",
        "C:\\model",
        Path("here/stage2"),
    ],
    ids=str,
)
def test_a_mistyped_path_asks_nobody(monkeypatch, tmp_path, network, source):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    if source == "":
        with pytest.raises(InputError, match="holds no model"):  # the current folder
            load_checkpoint(source)
    else:
        with pytest.raises(InputError, match=r"no such file; expected a weight file .*hub as owner/model"):
            load_checkpoint(source)
    assert network == []


def test_what_is_here_is_taken_whatever_it_is_called(monkeypatch, tmp_path, model, network):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("owner/model")
    save_checkpoint("owner/file", model, ABOUT)
    for source in ("owner/model", "owner/file"):
        assert_same_model(load_checkpoint(source)[0], model)
    assert network == []


# The hub


def test_a_model_that_is_not_in_the_cache_is_an_error_offline(tmp_path):
    """With the hub's own client; tests are offline (conftest)."""
    with pytest.raises(InputError) as caught:
        SegSwap.from_pretrained("owner/model", cache_dir=tmp_path)
    message = str(caught.value)
    assert message.startswith(
        "owner/model: no such file or folder, and as a model of the Hugging Face hub it is not in"
    )
    assert "HF_HUB_OFFLINE" in message and "copy the folder here" in message


def test_a_model_in_the_cache_loads_offline(tmp_path, model, saved):
    repository = tmp_path / "models--owner--model"
    shutil.copytree(saved, repository / "snapshots" / "0123456789abcdef")
    (repository / "refs").mkdir()
    for revision in ("main", "v1"):
        (repository / "refs" / revision).write_text("0123456789abcdef")
    assert_same_model(SegSwap.from_pretrained("owner/model", cache_dir=tmp_path), model)
    assert_same_model(SegSwap.from_pretrained("owner/model", cache_dir=tmp_path, revision="v1"), model)
    with pytest.raises(InputError, match="it is not in the cache"):
        SegSwap.from_pretrained("owner/model", cache_dir=tmp_path, revision="v2")


ANSWER = SimpleNamespace(headers={}, request=None)


def test_without_a_home_folder_no_folder_called_tilde_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "~/.cache/huggingface/hub")
    with pytest.raises(InputError, match=r"no home folder to keep it in; .* HF_HOME"):
        hub.locate("someone/model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.RepositoryNotFoundError("404", response=ANSWER), "does not exist, or is private.*hf auth login"),
        (errors.GatedRepoError("403", response=ANSWER), "its owner must let you in.*hf auth login"),
        (errors.RevisionNotFoundError("404", response=ANSWER), "has no revision 'v1'"),
        (errors.HFValidationError("Cannot have --\nin it"), "it cannot exist: Cannot have --$"),
        (
            errors.HfHubHTTPError("503 busy\nmore", response=ANSWER),
            r"could not be fetched \(503 busy\); try again",
        ),
        (errors.HTTPError("no way"), r"could not be fetched \(no way\)"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "could not be fetched"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_hub_answers_is_said_in_one_sentence(monkeypatch, error, message):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(hub, "snapshot_download", download)
    with pytest.raises(
        InputError, match=f"^owner/model: no such file or folder, and as a model of the Hugging.*{message}"
    ):
        SegSwap.from_pretrained("owner/model", revision="v1")


def test_a_full_disk_is_said_to_be_one(monkeypatch):
    def download(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub, "snapshot_download", download)
    with pytest.raises(OSError, match="No space left"):
        SegSwap.from_pretrained("owner/model")


def test_a_repository_of_another_library_is_an_error(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        SegSwap.from_pretrained("owner/model")


def test_push_to_hub_uploads_what_from_pretrained_reads(monkeypatch, tmp_path, model):
    uploaded = {}

    def create(self, repo_id, **options):
        uploaded["created"] = repo_id, options["private"]
        return type("Created", (), {"repo_id": repo_id})

    def upload(self, *, repo_id, folder_path, commit_message, **_):
        shutil.copytree(folder_path, tmp_path / "uploaded")
        uploaded["to"] = repo_id, commit_message
        return "https://huggingface.co/owner/model/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    words = {"training_data": "Drawn scenes.", "datasets": ["owner/drawn"]}
    assert model.push_to_hub("owner/model", private=True, commit_message="Stage 2", model_card_kwargs=words).endswith(
        "commit/1"
    )
    assert uploaded == {"created": ("owner/model", True), "to": ("owner/model", "Stage 2")}
    assert_same_model(SegSwap.from_pretrained(tmp_path / "uploaded"), model)
    card = ModelCard.load(tmp_path / "uploaded/README.md")
    assert card.data.datasets == ["owner/drawn"] and "Drawn scenes." in card.text


# The card


def test_the_card_says_what_the_model_says_of_itself_and_nothing_else(saved):
    card = ModelCard.load(saved / "README.md")
    head = card.data.to_dict()
    assert (head["license"], head["library_name"]) == ("mit", "segswap")
    assert card.data.pipeline_tag == "image-segmentation" and "co-segmentation" in card.data.tags
    assert "datasets" not in head and "model-index" not in head
    assert "| steps | 70 |" in card.text and "trained on pictures of 160 pixels" in card.text
    assert "by `roc_auc` on held-out pairs made in the same way: 0.973" in card.text
    assert "transformer: size tiny, channels 16" in " ".join(card.text.split())
    # The trunk's weights: convolutions, scales and shifts; a projection with its bias.
    assert card.text.count("[More Information Needed]") == 2, "which data, which results"
    assert "{{" not in card.text and "{%" not in card.text


def test_the_card_counts_weights(model, saved):
    matcher, backbone = (sum(p.numel() for p in part.parameters()) for part in (model.matcher, model.backbone))
    assert (
        f"| weights | {matcher:,} in the matcher, {backbone:,} in the backbone |" in (saved / "README.md").read_text()
    )


def test_a_model_that_says_nothing_of_itself_gets_a_card_with_open_places(model, tmp_path):
    SegSwap(model.backbone, model.matcher).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.count("[More Information Needed]") == 3 and "pixels; sizes near" not in text


def test_the_published_checkpoint_s_weights_are_not_given_our_licence(model):
    about = {"origin": "published checkpoint", "image_size": 480}
    card = SegSwap(model.backbone, model.matcher, about).generate_model_card()
    assert card.data.license is None and "those of the paper's authors" in card.text
    assert "the published checkpoint" in card.text
    named = SegSwap(model.backbone, model.matcher, about).generate_model_card(license="other")
    assert named.data.license == "other"
    assert model.generate_model_card().data.license == "mit", "the class's own head is as it was"


def test_everything_that_is_no_program_is_installed_with_the_package():
    """The card's template would be missing where the package is installed and the clone is not there."""
    root = Path(segswap.__file__).parent
    project = tomllib.loads((root.parent / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]
    folders = {package: root.parent / package.replace(".", "/") for package in patterns}
    listed = {path for package in patterns for pattern in patterns[package] for path in folders[package].glob(pattern)}
    other = {path for path in root.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert listed == other and root / "models/model_card.md" in other
