"""The real Snakefile, end to end on the smallest world, and what the demo run of this checkout reached."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from workflow_runs import ROOT, copy_project, digests, planned, snakemake

BENCHMARKS = ("pairs", "brueghel", "planted", "tokyo247", "pitts30k", "internet", "discovery")

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
    for path in folder.rglob("*.tar"):
        with tarfile.open(path) as tar:
            found.update({f"{path.parent.name}/{info.name}": tar.extractfile(info).read() for info in tar})
    return found


def test_pairs_have_the_same_bytes_for_any_number_of_cores_and_any_shard_size(finished: Path, tmp_path: Path) -> None:
    pairs = "results/tiny/pairs/train"
    for cores, per_shard in (("1", 8), ("8", 8), ("8", 5)):
        folder = copy_project(tmp_path / f"{cores}-{per_shard}")
        shutil.copytree(finished / "resources", folder / "resources")
        shutil.copytree(finished / "results/tiny/objects", folder / "results/tiny/objects")
        shutil.copy(finished / "results/tiny/styles.npz", folder / "results/tiny/styles.npz")
        settings = json.dumps({"pairs_per_shard": per_shard})
        targets = [f"{pairs}/{kind}/manifest.json" for kind in ("1obj", "2obj")]
        snakemake(folder, "--cores", cores, "--config", f"pairs={settings}", "--", *targets)
        if per_shard == 8:
            assert digests(folder / pairs) == digests(finished / pairs)
        else:
            assert len(list((folder / pairs).rglob("*.tar"))) == 8
            assert members(folder / pairs) == members(finished / pairs)


def test_a_key_reruns_what_reads_it_and_nothing_else(finished: Path) -> None:
    def rules(**sections: object) -> set[str]:
        settings = [f"{key}={json.dumps(value)}" for key, value in sections.items()]
        return set(planned(finished, "--config", *settings))

    report = {"join_metrics", "summary", "report_page"}
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
    assert "train_stage2" in stage2 and not stage2 & {"train_stage1", "pair_shard", "pretrain_backbone"}
    assert "pair_shard" in rules(seed=2)


def test_a_single_stage_can_be_forced(finished: Path) -> None:
    jobs = planned(finished, "--forcerun", "train_stage2")
    assert jobs["train_stage2"] == 1 and "train_stage1" not in jobs and "pair_shard" not in jobs
    before = (finished / "results/tiny/checkpoints/stage2.pt").read_bytes()
    snakemake(finished, "--forcerun", "train_stage2", "--until", "train_stage2")
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
    assert "train_stage2" not in rules("train_stage1") and "pair_shard" in rules("train_stage1")
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


def test_absent_requested_data_is_named_and_stops_nothing_else(finished: Path) -> None:
    settings = json.dumps({"tokyo247": {"folder": "resources/tokyo247"}})
    said = snakemake(finished, "--config", f"benchmarks={settings}", fails=True)
    assert said.count("Tokyo 24/7 must be requested from its authors") == 1
    assert "resources/tokyo247/query_list.npy  (benchmarks.tokyo247.files.queries)" in said
    assert "tokyo" not in (finished / "results/tiny/tables/summary.csv").read_text().lower()
    assert "brueghel" in (finished / "results/tiny/tables/summary.csv").read_text().lower()
    snakemake(finished)


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
    for rule in ("predict_pairs", "predict_details", "train_stage1", "train_stage2"):
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
