"""The configuration: schema, defaults, messages, the shipped files and the manual."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from segswap import sharing
from segswap.config import complete_config, complete_part, manual, read_config, read_schema, study_runs, with_base
from segswap.errors import InputError
from segswap.named_inputs import missing_inputs, named_inputs

CONFIG = Path(__file__).parent.parent / "config"
SCHEMA = read_schema(CONFIG / "schema.yaml")


def leaves(section: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Return every key of the schema that has a value."""
    found = []
    for key, entry in section["properties"].items():
        found += leaves(entry, (*path, key)) if "properties" in entry else [((*path, key), entry)]
    return found


def entries(path: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the schema's entries along a path of keys."""
    found = [SCHEMA]
    for key in path:
        found.append(found[-1]["properties"][key])
    return found


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return a configuration with one key, ``a.b.c``."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


def value_at(config: dict[str, Any], path: tuple[str, ...]) -> Any:
    """Return a value of a complete configuration; a key that came later is absent where it has its default."""
    schema = SCHEMA
    for part in path:
        schema = schema["properties"][part]
        if part not in config and schema.get("later"):
            return entries(path)[-1]["default"]
        config = config[part]
    return config


def test_the_schema_is_a_schema_and_describes_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for path, entry in leaves(SCHEMA):
        assert entry["description"].endswith("."), path
        jsonschema.validate(entry["default"], entry)


def test_an_empty_configuration_is_the_defaults_and_completing_twice_changes_nothing() -> None:
    config = complete_config({}, SCHEMA)
    for path, entry in leaves(SCHEMA):
        assert value_at(config, path) == entry["default"]
    assert complete_config(config, SCHEMA) == config


def test_a_key_that_came_later_is_there_only_where_it_is_used() -> None:
    number = {"type": "number", "default": 0}
    properties = {
        "old": number,
        "new": {**number, "later": True},
        "part": {"type": "object", "later": True, "properties": {"a": number, "b": {**number, "default": 1}}},
    }
    schema = {"type": "object", "properties": properties}

    def completed(given: dict[str, Any]) -> dict[str, Any]:
        return complete_part(given, schema)

    assert completed({}) == completed({"new": 0, "part": {"b": 1}}) == {"old": 0}
    assert completed({"new": 2}) == {"old": 0, "new": 2}
    assert completed({"part": {"a": 3}}) == {"old": 0, "part": {"a": 3, "b": 1}}


def test_defaults_are_not_shared_between_configurations() -> None:
    complete_config({}, SCHEMA)["pairs"]["stretch"].append(9)
    assert complete_config({}, SCHEMA)["pairs"]["stretch"] == [0.7, 1.0]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("pears", 1, r"pears: unknown key; did you mean pairs\?"),
        ("pairs.sise", 160, r"pairs\.sise: unknown key; did you mean pairs\.size\?"),
        ("train.stage1.epoch", 3, r"train\.stage1\.epoch: unknown key; did you mean train\.stage1\.epochs\?"),
        (
            "objects.source",
            "segments",
            r"objects\.source: unknown key; .* objects\.train\.source or objects\.heldout\.source\?",
        ),
        (
            "train.epochs",
            3,
            r"train\.epochs: unknown key; did you mean train\.stage1\.epochs or train\.stage2\.epochs\?",
        ),
        ("demo.zzz", 1, r"demo\.zzz: unknown key; known here: train_images"),
        ("pairs.size", 150, r"pairs\.size: 150 is not a multiple of 16"),
        ("pairs.size", "big", r"pairs\.size: 'big' is of type string, expected integer"),
        ("pairs.size", True, r"pairs\.size: True is of type boolean, expected integer"),
        ("style.method", "cubism", r"style\.method: 'cubism' is not one of"),
        ("benchmarks.run", ["paris"], r"benchmarks\.run\.0: 'paris' is not one of"),
        ("benchmarks.tokyo247.image_size", [640, 470], r"tokyo247\.image_size\.1: 470 is not a multiple of 16"),
        ("benchmarks.internet.sigma", {"Car100": 5}, r"internet\.sigma: 'default' is a required property"),
        ("run", "../elsewhere", r"run: '\.\./elsewhere' does not match"),
        ("pairs", 3, r"pairs: 3 is of type integer, expected object"),
        ("objects.min_area_share", 0.95, r"objects\.min_area_share: must be below objects\.max_area_share"),
        ("pairs.stretch", [1.0, 0.7], r"pairs\.stretch: .* lower bound above its upper"),
        ("pairs.min_cells", 450, r"pairs\.min_cells: 450 is half or more of the 900 cells"),
        ("style.vgg", None, r"style\.method: adain needs style\.vgg and style\.decoder"),
        ("style.method", "none", r"train\.batch\.stylise_probability: must be 0 where style\.method is none"),
        ("train.batch.negatives", 21, r"train\.batch\.negatives: 5 positives make at most 20"),
        ("pairs.train.1obj", 4, r"pairs\.train\.1obj: 4 pairs are fewer than train\.batch\.positives"),
        ("pairs.heldout.2obj", 2, r"pairs\.heldout\.2obj: held-out pairs need at least 4"),
        ("train.batch.photometric.blurr", 1, r"photometric\.blurr: unknown key; did you mean .*photometric\.blur\?"),
        ("train.batch.photometric.blur_radius", [2, 1], r"photometric\.blur_radius: .* lower bound above its upper"),
        (
            "objects.train.sources",
            [{"source": "annotations", "images": "a"}],
            r"objects\.train\.sources\.0\.annotations: is missing; a source of annotations needs it",
        ),
        (
            "objects.heldout.sources",
            [{"source": "segments", "images": "a"}, {"source": "yolo", "images": "b"}],
            r"objects\.heldout\.sources\.1\.labels: is missing; a source of yolo needs it",
        ),
        (
            "objects.train.sources",
            [{"source": "segments", "images": "a", "labels": "b"}],
            r"objects\.train\.sources\.0\.labels: is not read of a source of segments; remove it",
        ),
        (
            "objects.train.sources",
            [{"source": "segments", "images": "a", "frame": "shown"}],
            r"objects\.train\.sources\.0\.frame: is not read of a source of segments; remove it",
        ),
        (
            "objects.heldout.sources",
            [{"source": "annotations", "annotations": "a.json", "images": "a", "frame": "turned"}],
            r"objects\.heldout\.sources\.0\.frame: 'turned' is not one of",
        ),
        ("objects.heldout.frame", "turned", r"objects\.heldout\.frame: 'turned' is not one of"),
        (
            "objects.train",
            {"sources": [{"source": "segments", "images": "a"}], "frame": "shown"},
            r"objects\.train\.frame: is not read beside objects\.train\.sources; make it one of the sources",
        ),
        ("objects.train.sources", [{"source": "segments"}], r"sources\.0: 'images' is a required property"),
        ("objects.train.sources", [{"images": "a"}], r"sources\.0: 'source' is a required property"),
        ("objects.train.sources", [{"source": "voc", "images": "a"}], r"sources\.0\.source: 'voc' is not one of"),
        (
            "objects.train.sources",
            [{"source": "segments", "image": "a"}],
            r"objects\.train\.sources\.0\.image: unknown key; did you mean objects\.train\.sources\.0\.images\?",
        ),
        (
            "objects.train.sources",
            [{"source": "segments", "images": "a"}, {"images": "a", "source": "segments"}],
            r"objects\.train\.sources: .* has non-unique elements",
        ),
        (
            "objects.train",
            {"sources": [{"source": "segments", "images": "a"}], "images": "b"},
            r"objects\.train\.images: is not read beside objects\.train\.sources; make it one of the sources",
        ),
        ("train.stage2.mining.hard_above", 0.01, r"mining\.hard_above: must be above .*zero_below"),
        ("backbone.weights", "", r"backbone\.weights: ''"),
        ("backbone.taps", [], r"backbone\.taps: \[\] "),
        ("backbone.taps", [3], r"backbone\.taps: must be null where architecture is resnet50; it ends in layer3"),
        ("backbone.weights", "package", r"backbone\.weights: no package brings weights of resnet50"),
    ],
)
def test_a_mistake_is_refused_with_a_message_that_names_the_key(path: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        complete_config(nested(path, value), SCHEMA)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"weights": "pretrain"}, r"backbone\.weights: 'pretrain' trains ResNets only; give weights of vit"),
        ({"width": 32}, r"backbone\.width: is a setting of ResNets; leave it out where architecture is vit"),
        ({"projection": 128}, r"backbone\.projection: is a setting of ResNets; leave it out where architecture is vit"),
    ],
    ids=str,
)
def test_keys_of_resnets_are_refused_for_other_backbones(backbone: dict[str, Any], message: str) -> None:
    complete_config({"backbone": {"architecture": "vit", "weights": "owner/model"}}, SCHEMA)
    with pytest.raises(InputError, match=message):
        complete_config({"backbone": {"architecture": "vit", **backbone}}, SCHEMA)


@pytest.mark.parametrize("change", ["gain", "grey", "noise"])
def test_stored_features_and_photometric_changes_contradict_each_other(change: str) -> None:
    def given(strength: float, store: bool) -> dict[str, Any]:
        photometric = {change: strength, "blur_radius": [0, 1]}
        return {"train": {"store_features": store, "batch": {"photometric": photometric}}}

    with pytest.raises(InputError, match=r"train\.batch\.photometric: .* set train\.store_features to false"):
        complete_config(given(0.1, True), SCHEMA)
    complete_config(given(0.1, False), SCHEMA)
    complete_config(given(0, True), SCHEMA)


def test_what_a_training_can_do_since_later_changes_no_older_description() -> None:
    """Parameters are compared as text: a new key at its default would train everything again."""
    plain = complete_config({}, SCHEMA)
    stages = {f"stage{n}": {"weight_decay": 0, "weights_mean": None} for n in (1, 2)}
    batch = {"photometric": {"gain": 0, "blur_radius": [0.3, 1.5]}}
    assert json.dumps(complete_config({"train": {**stages, "batch": batch}}, SCHEMA)) == json.dumps(plain)
    used = complete_config({"train": {"stage1": {"weights_mean": 0.9}, "batch": {"photometric": {"gain": 1}}}}, SCHEMA)
    assert used["train"]["stage1"]["weights_mean"] == 0.9 and "weight_decay" not in used["train"]["stage1"]
    assert used["train"]["batch"]["photometric"]["blur_radius"] == [0.3, 1.5], "the section is whole where it is used"


def test_sources_of_every_kind_are_kept_as_they_are_given() -> None:
    sources = [
        {"source": "annotations", "annotations": "a.json", "images": "a"},
        {"source": "yolo", "labels": "b/labels", "images": "b/images"},
        {"source": "yolo", "labels": "c/labels", "names": "c.yaml", "images": "c/images"},
        {"source": "segments", "images": "a"},
    ]
    config = complete_config({"objects": {"train": {"sources": sources}}}, SCHEMA)
    assert config["objects"]["train"]["sources"] == sources
    assert "sources" not in config["objects"]["heldout"]


def test_text_is_read_as_what_the_schema_wants() -> None:
    given = {
        "seed": "3",
        "pairs": {"stretch": ["0.5", "1"], "size": "160"},
        "train": {"stage1": {"learning_rate": "1e-4", "gradient_clip": "null"}, "store_features": "True"},
        "benchmarks": {"internet": {"sigma": {"default": "2"}}, "tokyo247": {"files": {"positions": "null"}}},
        "run": "7",
    }
    config = complete_config(given, SCHEMA)
    assert config["seed"] == 3 and config["pairs"]["stretch"] == [0.5, 1.0] and config["pairs"]["size"] == 160
    assert config["train"]["stage1"]["learning_rate"] == 1e-4 and config["train"]["stage1"]["gradient_clip"] is None
    assert config["train"]["store_features"] is True
    assert config["benchmarks"]["internet"]["sigma"] == {"default": 2.0}
    assert config["benchmarks"]["tokyo247"]["files"]["positions"] is None
    assert config["run"] == "7", "text stays text where text is wanted"


def test_all_mistakes_are_listed_at_once() -> None:
    with pytest.raises(InputError) as caught:
        complete_config({"pears": 1, "seed": "a", "pairs": {"size": 7}}, SCHEMA)
    assert str(caught.value).count("\n  - ") >= 3


def test_all_missing_inputs_are_named_at_once_each_with_its_key(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "styles").mkdir()
    given = {
        "objects": {
            "train": {
                "sources": [
                    {"source": "segments", "images": "photos"},
                    {"source": "yolo", "labels": "labels", "names": "data.yaml", "images": "photos"},
                ]
            },
            "heldout": {"annotations": "val.json", "images": "resources/coco2017/val2017"},
        },
        "style": {"method": "reinhard", "folder": "styles"},
        "backbone": {"weights": "own.pth"},
        "benchmarks": {"run": ["pairs", "discovery", "tokyo247"], "brueghel": {"images": "paintings"}},
    }
    run = complete_config(given, SCHEMA)
    said = missing_inputs({"a": run, "b": run}, lambda path: path.startswith("resources/"))
    assert [line.strip() for line in said.splitlines() if line.startswith("  - ")] == [
        "- objects.train.sources.0.images: photos",
        "- objects.train.sources.1.labels: labels",
        "- objects.train.sources.1.names: data.yaml",
        "- objects.train.sources.1.images: photos",
        "- objects.heldout.annotations: val.json",
        "- backbone.weights: own.pth",
        "- benchmarks.brueghel.images: paintings",
    ]
    for path in ("photos", "labels", "data.yaml", "val.json", "own.pth", "paintings"):
        (tmp_path / path).touch()
    assert missing_inputs({"a": run}, lambda path: path.startswith("resources/")) == ""


@pytest.mark.parametrize("weights", ["pretrain", "package", "facebook/dinov2-small"])
def test_what_the_workflow_fetches_or_trains_is_no_input(weights: str) -> None:
    run = complete_config({}, SCHEMA)
    run["backbone"]["weights"] = weights
    assert "backbone.weights" not in named_inputs(run)


ALONE = ["config.yaml", "demo-long.yaml", "custom.yaml", "paper.yaml", "real.yaml"]
OVER_ANOTHER = ["real-cpu.yaml"]


@pytest.mark.parametrize("name", ALONE)
def test_shipped_configurations_are_usable(name: str) -> None:
    given = yaml.safe_load((CONFIG / name).read_text())
    config = complete_config(copy.deepcopy(given), SCHEMA)
    json.dumps(config)
    assert config["run"] == {"config.yaml": "demo"}.get(name, Path(name).stem)


@pytest.mark.parametrize("name", OVER_ANOTHER)
def test_shipped_configurations_over_another_are_usable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    config = read_config(CONFIG / name)
    json.dumps(config)
    assert config["run"] == Path(name).stem and config["base"] is None


STUDIES = ["ablations.yaml", "demo-four-models.yaml", "paper-four-models.yaml"]


@pytest.mark.parametrize("name", STUDIES)
def test_shipped_studies_are_usable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    runs = study_runs(with_base({"base": f"config/{name}"}), SCHEMA)
    json.dumps(runs)
    assert len(runs) > 1 and all(run.startswith(f"{Path(name).stem}-") for run in runs)


def test_every_shipped_configuration_is_tested_and_in_the_manual() -> None:
    shipped = {path.name for path in CONFIG.glob("*.yaml")} - {"schema.yaml"}
    assert shipped == {*ALONE, *OVER_ANOTHER, *STUDIES}
    assert all(f"| `{name}` |" in manual(SCHEMA) for name in shipped)


@pytest.mark.parametrize("world", ["demo", "paper"])
def test_four_models_are_judged_on_the_same_pairs_and_the_unsupervised_ones_train_without_annotations(
    world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CONFIG.parent)
    runs = study_runs(with_base({"base": f"config/{world}-four-models.yaml"}), SCHEMA)
    models = {
        name.removeprefix(f"{world}-four-models-"): (run["objects"]["train"]["source"], run["model"]["architecture"])
        for name, run in runs.items()
    }
    assert models == {
        "coco-transformer": ("annotations", "transformer"),
        "coco-ncnet": ("annotations", "ncnet"),
        "unsupervised-transformer": ("segments", "transformer"),
        "unsupervised-ncnet": ("segments", "ncnet"),
    }
    for kind in sharing.KINDS:
        assert len({sharing.pairs(run, "heldout", kind).name for run in runs.values()}) == 1
        assert len({sharing.pairs(run, "train", kind).name for run in runs.values()}) == 2
    for name, run in runs.items():
        if "unsupervised" in name:
            trained_on = [sharing.objects(run, "train"), *(sharing.pairs(run, "train", kind) for kind in sharing.KINDS)]
            read = json.dumps([part.settings for part in (*trained_on, sharing.backbone(run))])
            assert "annotations" not in read


def test_the_papers_configuration_says_the_published_defaults() -> None:
    given = yaml.safe_load((CONFIG / "paper.yaml").read_text())
    differing = {
        ".".join(path)
        for path, entry in leaves(SCHEMA)
        if not any(part.get("later") for part in entries(path))
        and value_at(complete_config(given, SCHEMA), path) != entry["default"]
    }
    assert differing == {"benchmarks.internet.sigma"}, "tuned per class in the paper; one value is the default"
    config = complete_config(given, SCHEMA)
    assert config["benchmarks"]["internet"]["sigma"] == {
        "default": 1.2,
        "Airplane100": 0.8,
        "Car100": 5.0,
        "Horse100": 1.2,
    }
    stated = [
        path
        for path, _ in leaves(SCHEMA)
        if path[0] in ("pairs", "model", "transformer", "ncnet") and path[-1] != "gallery"
    ]
    for path in stated:
        if path[-1] in ("max_attempts", "jpeg_quality", "initialisation"):
            continue
        assert value_at(given, path) == value_at(config, path), f"{path} is not written out"


def test_the_manual_is_made_from_the_schema() -> None:
    assert (CONFIG / "README.md").read_text() == manual(SCHEMA), "run python -m segswap.config"
    for path, entry in leaves(SCHEMA):
        assert f"| `{path[-1]}` |" in manual(SCHEMA)
        assert entry["description"].replace("|", "/") in manual(SCHEMA)
