"""The real Snakefile, end to end on the smallest world, and what the demo run of this checkout reached."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from html_pages import unloaded
from workflow_runs import ROOT, copy_project, digests, files_below, planned, snakemake

from segswap.commands.info import describe

BENCHMARKS = ("pairs", "brueghel", "planted", "altered", "tokyo247", "pitts30k", "internet", "discovery")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the tiny run is done."""
    folder = copy_project(tmp_path_factory.mktemp("workflow"))
    snakemake(folder)
    return folder


def test_every_promised_file_is_there_and_nothing_half_written(finished: Path) -> None:
    results = finished / "results/tiny"
    for kind in ("1obj", "2obj"):
        assert len(list((results / f"pairs/train/{kind}").glob("*.tar"))) == 2
        assert (results / f"galleries/train-{kind}.html").stat().st_size > 10_000
    for name in ("stage1", "stage2"):
        assert (results / f"checkpoints/{name}.pt").is_file()
    for name in BENCHMARKS:
        metrics = json.loads((results / f"metrics/{name}.json").read_text())
        assert all(isinstance(value, int | float) for value in metrics.values())
        for prefix in ("", "untrained_", "baseline_"):
            assert any(key.startswith(prefix) for key in metrics)
        assert (results / f"pictures/{name}.jpg").stat().st_size > 5_000
    summary = (results / "tables/summary.csv").read_text()
    assert all(name in summary.lower() for name in ("brueghel", "tokyo", "pitts", "internet"))
    assert "clusters.html" in (results / "report.html").read_text()
    assert "What the images share" in (results / "clusters.html").read_text()
    assert not [path for path in finished.rglob("*.tmp") if ".snakemake" not in path.parts]
    assert not list((results / "state").glob("*/*")), "rolling states are removed at the end"
    assert not list(finished.rglob("logs/**/*.log.tmp"))


def test_a_second_run_has_nothing_to_do_also_after_touching_sources(finished: Path) -> None:
    for part in ("segswap", "workflow"):
        for path in (finished / part).rglob("*.*"):
            path.touch()
    assert "Nothing to be done" in snakemake(finished)


def test_a_deleted_shard_is_made_again_alone_and_byte_for_byte(finished: Path) -> None:
    folder = finished / "results/tiny/pairs"
    before = digests(folder)
    (folder / "train/2obj/2obj-000001.tar").unlink()
    assert planned(finished) == {"pair_shard": 1}
    snakemake(finished)
    assert digests(folder) == before
    assert "Nothing to be done" in snakemake(finished)


def members(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all samples of the pair sets in a folder, by set and member."""
    found = {}
    for path in (path for path in files_below(folder) if path.suffix == ".tar"):
        with tarfile.open(path) as tar:
            found.update({f"{path.parent.name}/{info.name}": tar.extractfile(info).read() for info in tar})
    return found


def test_pairs_have_the_same_bytes_for_any_number_of_cores_and_any_shard_size(finished: Path, tmp_path: Path) -> None:
    def train_pairs(folder: Path) -> Path:
        return folder / "results/tiny/pairs/train"

    for cores, per_shard in (("1", 8), ("8", 5)):
        folder = copy_project(tmp_path / f"{cores}-{per_shard}")
        shutil.copytree(finished / "resources", folder / "resources")
        for stage in ("objects", "styles"):
            shutil.copytree(finished / f"results/shared/{stage}", folder / f"results/shared/{stage}")
        settings = json.dumps({"pairs_per_shard": per_shard, "heldout": {"1obj": 4, "2obj": 4}})
        snakemake(folder, "--cores", cores, "--config", f"pairs={settings}", "--", "pairs")
        if per_shard == 8:
            assert digests(train_pairs(folder)) == digests(train_pairs(finished))
        else:
            assert len([path for path in files_below(train_pairs(folder)) if path.suffix == ".tar"]) == 8
            assert members(train_pairs(folder)) == members(train_pairs(finished))


def test_a_key_reruns_what_reads_it_and_nothing_else(finished: Path) -> None:
    def rules(**sections: object) -> set[str]:
        settings = [f"{key}={json.dumps(value)}" for key, value in sections.items()]
        return set(planned(finished, "--config", *settings))

    report = {"join_metrics", "summary", "provenance", "report_page"}
    brueghel = rules(benchmarks={"brueghel": {"thresholds": [0.4]}})
    assert brueghel - report == {"metrics_details", "picture_details"}
    from_graph = {"correspondence_graph", "eigenvectors"}
    internet = rules(benchmarks={"internet": {"sigma": {"default": 3.0}}})
    segmented = {"segment_internet", "metrics_internet", "picture_internet"}
    assert internet - report == from_graph | segmented
    assert rules(benchmarks={"internet": {"foreground": 0.5}}) - report == segmented
    clusters = rules(benchmarks={"discovery": {"sigma": 3.0}})
    found = {"cluster_regions", "metrics_discovery", "picture_discovery", "cluster_page"}
    assert clusters - report == from_graph | found
    assert rules(benchmarks={"discovery": {"clusters": 5}}) - report == {"eigenvectors"} | found
    assert rules(benchmarks={"discovery": {"threshold": 0.5}}) - report == {"metrics_discovery", "picture_discovery"}
    assert rules(compute={"device": "cpu", "workers": 1}) == set(), "how programs run changes no result"
    stage2 = rules(train={"stage2": {"epochs": 2}})
    assert "stage2" in stage2 and not stage2 & {"stage1", "pair_shard", "pretrain_backbone"}
    assert {"pair_shard", "pair_manifest", "link_shared"} <= rules(seed=2)


def test_a_folder_of_ones_own_counts_by_its_pictures_and_not_by_its_time(tmp_path: Path, tiny_world) -> None:
    folder = copy_project(tmp_path)
    shutil.copytree(tiny_world.style_images, folder / "own")
    own = ("--config", 'style={"folder": "own"}', "--until", "style_statistics")
    assert planned(folder, *own) == {"list_folder": 1, "style_statistics": 1}
    snakemake(folder, *own)
    (folder / "own/.DS_Store").write_bytes(b"x")
    assert planned(folder, *own) == {}
    first, second, *_ = sorted((folder / "own").glob("*.jpg"))
    shutil.copyfile(first, second)
    assert planned(folder, *own) == {"list_folder": 1, "style_statistics": 1}


def test_a_single_stage_can_be_forced(finished: Path) -> None:
    jobs = planned(finished, "--forcerun", "stage2")
    assert jobs["stage2"] == 1 and "stage1" not in jobs and "pair_shard" not in jobs
    before = (finished / "results/tiny/checkpoints/stage2.pt").read_bytes()
    snakemake(finished, "--forcerun", "stage2", "--until", "stage2")
    again = (finished / "results/tiny/checkpoints/stage2.pt").read_bytes()
    assert hashlib.sha256(again).digest() == hashlib.sha256(before).digest(), "the same training, bit for bit"


def test_named_targets_are_listed_and_plan_what_they_name(finished: Path) -> None:
    listed = snakemake(finished, "--list-target-rules")
    for name in (
        "pairs_1obj",
        "pairs_2obj",
        "train_stage1",
        "train_stage2",
        *(f"evaluate_{name}" for name in BENCHMARKS),
    ):
        assert f"{name} (" in listed, "with a word on what it makes"

    def rules(target: str) -> set[str]:
        return set(planned(finished, "--forceall", "--", target))

    assert "predict_details" in rules("evaluate_brueghel")
    assert not {
        rule for rule in rules("evaluate_brueghel") if "places" in rule or "internet" in rule or "cluster" in rule
    }
    assert {"match_collection", "cluster_page"} <= rules("evaluate_discovery")
    assert "stage2" not in rules("train_stage1") and {"pair_shard", "stage1"} <= rules("train_stage1")
    assert "stage2" in rules("train_stage2")
    assert rules("pairs_1obj") >= {"pair_shard", "gallery"} and "pretrain_backbone" not in rules("pairs_1obj")


def test_a_stage_is_trained_by_several_processes_where_the_configuration_says_so(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "processes"
    shutil.copytree(finished, folder, symlinks=True)
    settings = ("--config", 'train={"processes": 2}')
    snakemake(folder, "results/tiny/checkpoints/stage1.pt", *settings)
    said = subprocess.run(
        [sys.executable, "-m", "segswap.cli", "info", "results/tiny/checkpoints/stage1.pt"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    about = json.loads(said.stdout)
    assert about["processes"] == 2 and about["epoch"] == "best"
    assert list((folder / "results/tiny/tensorboard/stage1").glob("events*"))


def test_models_are_selected_by_brueghel_where_the_configuration_says_so(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "selection"
    shutil.copytree(finished, folder, symlinks=True)
    snakemake(folder, "results/tiny/checkpoints/stage1.pt", "--config", 'train={"stage1": {"select": "brueghel_map"}}')
    history = (folder / "results/tiny/history/stage1.csv").read_text()
    assert "heldout_brueghel_map" in history.splitlines()[0]


def test_the_published_protocol_runs_from_features_to_the_tables(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    shutil.copytree(finished, folder, symlinks=True)
    metrics = folder / "results/tiny/metrics/brueghel.json"
    before = metrics.read_text()
    run = 'benchmarks={"run": ["brueghel"]}'
    snakemake(folder, "results/tiny/tables/summary.md", "--config", "protocol=published", run)
    assert "Protocol: published." in (folder / "results/tiny/tables/summary.md").read_text()
    assert metrics.read_text() != before, "another arithmetic, other numbers"


def test_runs_side_by_side_share_what_they_have_in_common_and_stand_in_one_table(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished, folder, symlinks=True)
    study = {
        "base": "config/tiny.yaml",
        "run": "study",
        "benchmarks": {"run": ["pairs"]},
        "runs": {"full": {}, "ncnet": {"model": {"architecture": "ncnet"}}},
    }
    (folder / "config/study.yaml").write_text(json.dumps(study))
    settings = ("--configfile", "config/study.yaml")
    of_tiny = planned(folder)
    jobs = planned(folder, *settings)
    assert jobs["stage1"] == jobs["stage2"] == jobs["link_shared"] == 2
    shared = {"object_table", "style_statistics", "pair_shard", "pair_manifest", "pretrain_backbone", "pair_features"}
    assert not shared & set(jobs), "made by the run before"
    assert jobs["calibrate_baseline"] == 1 and jobs["predict_pairs"] == jobs["metrics_pairs"] == 5, "one baseline"
    said = snakemake(folder, *settings)
    table = (folder / "results/study/tables/comparison.md").read_text()
    assert "| study-full | nothing |" in table and "| study-ncnet | model.architecture: ncnet |" in table
    assert "| study-full | nothing |" in said
    metrics = [json.loads((folder / f"results/study-{name}/metrics/pairs.json").read_text()) for name in study["runs"]]
    of_baseline = [{key: found[key] for key in found if key.startswith("baseline_")} for found in metrics]
    assert of_baseline[0] == of_baseline[1] and metrics[0]["untrained_roc_auc"] != metrics[1]["untrained_roc_auc"]
    models = [folder / f"results/study-{name}/checkpoints/stage2.pt" for name in study["runs"]]
    assert [describe(str(path))["architecture"] for path in models] == ["transformer", "ncnet"]
    assert not planned(folder, *settings) and planned(folder) == of_tiny, "the runs leave each other alone"
    links = [folder / f"results/{run}/pairs/train/1obj" for run in ("tiny", "study-full")]
    assert links[0].resolve() == links[1].resolve()
    said = subprocess.run(
        [sys.executable, "-m", "segswap.cli", "unused"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert said == "0.0 MB that no run uses\n"


def test_the_ablations_plan_makes_once_what_they_have_in_common(finished: Path) -> None:
    jobs = planned(finished, "--configfile", "config/ablations.yaml")
    assert jobs["stage1"] == jobs["stage2"] == 10 and jobs["compare_runs"] == 1
    assert jobs["pair_shard"] == 18, "4 shards of each kind, with and without blending, and one of each held out"
    assert jobs["pretrain_backbone"] == 2 and jobs["pair_features"] == 8 and jobs["features_places"] == 2
    assert jobs["calibrate_baseline"] == 2, "one for each set of training pairs"
    assert jobs["predict_pairs"] == jobs["metrics_places"] == 17, (
        "10 trained, 5 untrained (4 sizes, and another backbone), 2 baselines"
    )


@pytest.mark.parametrize("world", ["demo", "paper"])
def test_the_plan_of_four_models_makes_once_what_they_have_in_common(finished: Path, world: str) -> None:
    jobs = planned(finished, "--configfile", f"config/{world}-four-models.yaml")
    assert jobs["untrained_model"] == jobs["stage1"] == jobs["stage2"] == 4 and jobs["compare_runs"] == 1
    assert jobs["object_table"] == 2 and jobs["segment_table"] == 1, "held-out objects are annotated"
    assert jobs["pair_shard"] == {"demo": 18, "paper": 402}[world], "training pairs twice, held-out pairs once"
    assert jobs["pair_manifest"] == 6 and jobs["calibrate_baseline"] == 2
    # In the demo the backbone learns from the training pairs, so there are two; the paper's is a file.
    backbones = {"demo": 2, "paper": 1}[world]
    assert jobs.get("pretrain_backbone", 0) == {"demo": 2, "paper": 0}[world]
    assert jobs["pair_features"] == 4 + 2 * backbones, "of each set once, of held-out pairs by each backbone"
    assert jobs["features_places"] == 2 * backbones and jobs["features_details"] == backbones
    assert jobs["candidate_pairs"] == {"demo": 3 * 2, "paper": 3 + 1}[world]
    makers = 4 + 2 * backbones + 2  # trained models, untrained ones, baselines
    assert jobs["predict_pairs"] == jobs["metrics_pairs"] == makers
    assert jobs["metrics_places"] == 2 * makers and jobs["metrics_internet"] == makers
    assert jobs["join_metrics"] == 4 * {"demo": 5, "paper": 6}[world], "each run has all numbers"


def test_absent_requested_data_is_named_and_stops_nothing_else(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    shutil.copytree(finished, folder, symlinks=True)
    settings = json.dumps({"tokyo247": {"folder": "resources/tokyo247"}})
    said = snakemake(folder, "--config", f"benchmarks={settings}", fails=True)
    assert said.count("Tokyo 24/7 must be requested from its authors") == 1
    assert "resources/tokyo247/query_list.npy  (benchmarks.tokyo247.files.queries)" in said
    summary = (folder / "results/tiny/tables/summary.csv").read_text().lower()
    assert "tokyo" not in summary and "brueghel" in summary


def test_a_wrong_key_stops_before_any_job(finished: Path) -> None:
    said = snakemake(finished, "--config", 'pairs={"size": 100}', fails=True)
    assert "pairs.size: 100 is not a multiple of 16" in said
    assert "Traceback" not in said


def test_snakemakes_report_is_made_offline(finished: Path) -> None:
    snakemake(finished, "--report", "report.html")
    page = (finished / "report.html").read_text()
    assert "train-1obj" in page and "history.svg" in page


def test_the_papers_plan_has_all_shards_and_benchmarks(finished: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--configfile", "config/paper.yaml"],
        cwd=finished,
        capture_output=True,
        text=True,
    )
    text = said.stdout + said.stderr
    assert said.returncode == 0, text[-3000:]
    jobs = {line.split()[0]: line.split()[1] for line in text.splitlines() if len(line.split()) == 2}
    assert jobs["pair_shard"] == "202", "100 + 100 for training, 1 + 1 held out"
    assert jobs["predict_places"] == "48" and jobs["check_places"] == "2"
    assert jobs["match_collection"] == "60", "3 matchers: 4 chunks of 3 classes, 8 of the paintings"
    for rule in ("predict_pairs", "predict_details", "stage1", "stage2"):
        assert rule in jobs


def test_what_the_demo_run_of_this_checkout_reached() -> None:
    metrics = ROOT / "results/demo/metrics/pairs.json"
    if not metrics.is_file():
        pytest.skip(f"no demo run in this checkout ({metrics}); run `snakemake --cores 8` first")
    found = json.loads(metrics.read_text())
    assert found["mask_iou"] >= 0.44
    assert found["within_cell"] >= 0.85
    assert found["roc_auc"] >= 0.96
    assert found["negative_mask"] <= 0.07
    for key in ("mask_iou", "within_cell", "roc_auc"):
        assert found[key] > found[f"untrained_{key}"] + 0.1, "clearly better than the untrained model"
    assert found["mask_iou"] > found["baseline_mask_iou"] + 0.05, "and than cosine matching of the same features"
    assert found["roc_auc"] > found["baseline_roc_auc"] + 0.02


def test_snakemakes_report_opens_offline_and_shows_every_result(finished: Path, tmp_path: Path, show) -> None:
    snakemake(finished, "--report", "report.zip")
    with zipfile.ZipFile(finished / "report.zip") as packed:
        packed.extractall(tmp_path)
    # Its style sheet warns on the console of being built in the browser.
    page = show(tmp_path / "report/report.html", warnings=False)
    menu = page.locator("nav").first
    described = page.evaluate("Object.values(results).map(r => r.name + ': ' + (r.caption || ''))")
    assert described and all(re.search(r": .*\w", text, re.DOTALL) for text in described), (
        "every result has its caption"
    )

    def open_menu(*names: str) -> None:
        page.reload()
        for name in names:
            menu.get_by_text(name, exact=True).last.click()

    def entries(*names: str) -> list[str]:
        open_menu(*names)
        return [text for text in menu.locator("ul").last.inner_text().splitlines() if text]

    places = []
    for category in ("Pairs", "Results", "Provenance"):
        open_menu(category)
        found = [] if menu.locator("tbody").count() else entries(category)
        places += [(category, name) for name in found] or [(category,)]

    shown: dict[str, str] = {}
    for place in places:
        open_menu(*place)
        for row in menu.locator("tbody tr").all():
            view = row.locator("a").first
            if view.get_attribute("href") != "#":
                continue  # JSON, to be downloaded: its numbers stand in the tables
            view.click()
            picture = page.locator("div.h-screen img").last
            if page.locator("iframe").count():
                handle = page.locator("iframe").element_handle()
                frame = handle.content_frame()
                frame.wait_for_load_state()
                assert unloaded(frame) == []
                shown[Path(handle.get_attribute("src")).name] = frame.locator("body").inner_text()
            else:
                picture.evaluate("image => image.decode()")
                assert picture.evaluate("image => image.naturalWidth") > 100
                assert picture.bounding_box()["y"] >= 0, "its top is in reach"
                shown[Path(picture.get_attribute("src")).name] = ""
    pictures = {f"{name}.jpg" for name in BENCHMARKS}
    assert (
        set(shown) >= {"summary.html", "history.svg", "train-1obj.html", "clusters.html", "provenance.html"} | pictures
    )
    assert "Brueghel" in shown["summary.html"] and "Beside the published results" in shown["summary.html"]
    assert "Pairs: one object" in shown["train-1obj.html"] and "What the images share" in shown["clusters.html"]
    stage2 = hashlib.sha256((finished / "results/tiny/checkpoints/stage2.pt").read_bytes()).hexdigest()
    assert stage2 in shown["provenance.html"] and f"torch\t{metadata.version('torch')}" in shown["provenance.html"]
    assert "pretrain_backbone" in shown["provenance.html"], "with its time and memory"
