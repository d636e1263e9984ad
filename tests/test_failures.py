"""What goes wrong on real machines, at the level of the workflow: nothing is lost, nothing stays half written.

Each failure is a real one: a file system without room, a killed Snakemake, a damaged file. What is expected is what a
user would see and do (docs/troubleshooting.md), and then the very bytes of a run that nothing befell.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from workflow_runs import ROOT, command, copy_project, digests, planned, snakemake

from segswap import sharing
from segswap.config import SCHEMA, complete_config, merged, read_schema
from segswap.errors import InputError
from segswap.pairs.pair_set import PairSet
from segswap.pairs.verify import verify_set

pytestmark = pytest.mark.slow

STEPS = 12
CHANGES = {
    "pairs": {"train": {"1obj": 32, "2obj": 8}, "pairs_per_shard": 16},
    "backbone": {"pretrain": {"steps": STEPS}},
    "compute": {"state_seconds": 0.001},
}
OWN = {
    "objects": {"train": {"annotations": "own/coco/train/annotations.json", "images": "own/coco/train/images"}},
    "style": {"folder": "own/styles"},
}


def settings(changes: dict[str, Any]) -> tuple[str, ...]:
    """Return the command-line arguments that change the configuration."""
    return "--config", *(f"{key}={json.dumps(value)}" for key, value in changes.items())


SETTINGS, OWN_INPUTS = settings(CHANGES), settings(CHANGES | OWN)

# Where things lie, and what makes them.
TINY = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())
CONFIG, OWN_CONFIG = (
    complete_config(merged(TINY, changes), read_schema(SCHEMA)) for changes in (CHANGES, CHANGES | OWN)
)
PAIRS = "results/shared/pairs"
SET = sharing.pairs(CONFIG, "train", "1obj").folder
MANIFEST = f"{SET}/manifest.json"
SHARD = f"{SET}/1obj-000000.tar"
OWN_SHARD = f"{sharing.pairs(OWN_CONFIG, 'train', '1obj').folder}/1obj-000000.tar"
OBJECTS = f"{sharing.objects(CONFIG, 'train').folder}/objects.parquet"
OWN_OBJECTS = f"{sharing.objects(OWN_CONFIG, 'train').folder}/objects.parquet"
BACKBONE = sharing.backbone(CONFIG)
TRAINED = f"{BACKBONE.folder}/backbone.pt"
HISTORY = f"{BACKBONE.folder}/history.csv"
STATE = f"{BACKBONE.folder}/state"
TRAINING_LOG = f"logs/shared/pretrain_backbone-{BACKBONE.name}.log"
READS_TRAINED = "results/tiny/checkpoints/untrained.pt"
SHARD_RULE, TRAINING_RULE, READING_RULE = "pair_shard", "pretrain_backbone", "untrained_model"


def test_missing_inputs_are_named_before_snakemake_names_one(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    said = snakemake(
        project, "-n", *settings({"style": {"folder": "own/styles"}}), "--configfile", "config/custom.yaml", fails=True
    )
    before, _, after = said.partition("MissingInputException")
    assert after and "  - objects.train.annotations: data/coco/annotations/instances_train2017.json\n" in before
    assert "  - style.folder: own/styles\n" in before and "resources" not in before


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which pairs are made and a model is trained, and nothing befell it."""
    folder = copy_project(tmp_path_factory.mktemp("failures"))
    snakemake(folder, TRAINED, *SETTINGS)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to which something is done."""
    return shutil.copytree(made, tmp_path / "project", symlinks=True)


def without_shards(project: Path) -> Path:
    """Delete the set of shards; return its folder."""
    folder = project / SET
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def without_training(project: Path) -> None:
    """Delete what was trained."""
    (project / TRAINED).unlink()
    (project / HISTORY).unlink()


def leftovers(project: Path) -> list[Path]:
    """Return what should not be there after a run: temporary files, rolling states."""
    unfinished = [path for path in (project / "results").rglob("*") if path.name.endswith((".tmp", ".lock"))]
    return unfinished + list((project / STATE).glob("*"))


def assert_as_if_nothing_had_happened(project: Path, made: Path) -> None:
    assert digests(project / PAIRS) == digests(made / PAIRS)
    for path in (TRAINED, HISTORY):
        assert (project / path).read_bytes() == (made / path).read_bytes(), path
    assert not leftovers(project)


# Processes


def wait_until(condition: Callable[[], object], while_runs: subprocess.Popen | None = None) -> None:
    """Wait until something is so; fail when it takes too long, or when the process has ended before."""
    patience = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < patience, "waited in vain"
        assert while_runs is None or while_runs.poll() is None, "it ended before"
        time.sleep(0.003)


def runs(process: int) -> bool:
    """Return whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def start() -> Iterator[Callable[[Path, str], subprocess.Popen]]:
    """Starts Snakemake; kills it and its jobs at the end of the test."""
    started = []

    def starting(project: Path, target: str) -> subprocess.Popen:
        process = subprocess.Popen(
            command(target, *SETTINGS),
            cwd=project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield starting
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def writers(folder: Path) -> list[int]:
    """Return the processes that write files in a folder, by the names of their temporary files."""
    return [int(path.stem.rpartition("-")[2]) for path in folder.glob(".*.tar.*.tmp")]


def stopped_writers(folder: Path, snakemake_: subprocess.Popen) -> list[int]:
    """Stop the jobs of a Snakemake that write files in a folder, as soon as there are any; return their processes."""
    wait_until(lambda: writers(folder), snakemake_)
    jobs = writers(folder)
    for job in jobs:
        os.kill(job, signal.SIGSTOP)
    return jobs


# Mounts


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """Mounts and, at the end of the test, unmounts; skips where that is not allowed."""
    mounted = []

    def mounting(target: Path, *arguments: str) -> None:
        try:
            done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        if target not in mounted:
            mounted.append(target)

    yield mounting
    for target in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(target)], check=True)


def read_only(mount: Callable[..., None], folder: Path) -> None:
    mount(folder, "--bind", str(folder), str(folder))
    mount(folder, "-o", "remount,bind,ro", str(folder))


# Damage


def flip_bits(path: Path, places: list[int]) -> None:
    """Flip a bit at each place."""
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 4
    path.write_bytes(data)


def members_middles(shard: Path) -> list[int]:
    """Return the place in a shard of the middle of each member."""
    rows = pq.read_table(shard.with_suffix(".parquet"))
    names = [name.removeprefix("offset_") for name in rows.column_names if name.startswith("offset_")]
    return [row[f"offset_{name}"] + row[f"size_{name}"] // 2 for row in rows.to_pylist() for name in names]


# The drill


def test_a_disk_that_fills_while_a_shard_is_written(made: Path, project: Path, mount: Callable[..., None]) -> None:
    folder = without_shards(project)
    mount(folder, "-t", "tmpfs", "-o", "size=8m", "none", str(folder))
    others = folder / "others.bin"
    others.write_bytes(bytes((8 << 20) - (240 << 10)))
    said = snakemake(project, MANIFEST, *SETTINGS, fails=True)
    assert "error: the disk is full ([Errno 28] No space left on device" in said
    assert "make room and start again: nothing half written was left" in said and "Traceback" not in said
    assert [path for path in folder.iterdir() if path.name != "benchmarks"] == [others]
    others.unlink()
    snakemake(project, MANIFEST, *SETTINGS)
    assert_as_if_nothing_had_happened(project, made)


@pytest.mark.parametrize("whole_group", [True, False], ids=["with its jobs", "alone"])
def test_a_snakemake_killed_while_shards_are_written(
    made: Path, project: Path, start: Callable[[Path, str], subprocess.Popen], whole_group: bool
) -> None:
    folder = without_shards(project)
    first = start(project, MANIFEST)
    jobs = stopped_writers(folder, first)
    if whole_group:
        os.killpg(first.pid, signal.SIGKILL)
    else:
        first.kill()
    first.wait()
    assert not (project / MANIFEST).exists()
    snakemake(project, "--unlock", *SETTINGS)
    snakemake(project, MANIFEST, *SETTINGS)
    if not whole_group:
        assert sorted(writers(folder)) == sorted(jobs), "nobody takes away what a running process writes"
        for job in jobs:
            os.kill(job, signal.SIGCONT)
        wait_until(lambda: not any(runs(job) for job in jobs))
        assert planned(project, MANIFEST, *SETTINGS) == {}, "its jobs end without touching what the next run made"
    assert_as_if_nothing_had_happened(project, made)


def stopped_training(project: Path, snakemake_: subprocess.Popen) -> int:
    """Stop the training for a while when it has saved two states; return its process."""

    def is_stopped() -> bool:
        locks = list((project / STATE).glob("*/lock"))
        if not locks or not locks[0].read_text():
            return False
        training = int(locks[0].read_text().split()[1])
        os.kill(training, signal.SIGSTOP)
        if {path.name for path in locks[0].parent.glob("*.pt")} == {"state.pt", "previous.pt"}:
            return True
        os.kill(training, signal.SIGCONT)
        return False

    wait_until(is_stopped, snakemake_)
    (lock,) = (project / STATE).glob("*/lock")
    return int(lock.read_text().split()[1])


def test_a_snakemake_killed_with_its_training_whose_last_state_is_damaged(
    made: Path, project: Path, start: Callable[[Path, str], subprocess.Popen]
) -> None:
    without_training(project)
    first = start(project, TRAINED)
    stopped_training(project, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (project / TRAINED).exists()
    (state,) = (project / STATE).glob("*/state.pt")
    os.truncate(state, state.stat().st_size // 2)
    snakemake(project, "--unlock", *SETTINGS)
    snakemake(project, TRAINED, *SETTINGS)
    said = (project / TRAINING_LOG).read_text()
    assert "state not usable, trying the one before" in said and "resumed at step" in said
    assert_as_if_nothing_had_happened(project, made)


def test_a_snakemake_killed_alone_whose_training_goes_on(
    made: Path, project: Path, start: Callable[[Path, str], subprocess.Popen]
) -> None:
    without_training(project)
    first = start(project, TRAINED)
    training = stopped_training(project, first)
    first.kill()
    first.wait()
    snakemake(project, "--unlock", *SETTINGS)
    said = snakemake(project, TRAINED, *SETTINGS, fails=True)
    assert f"process {training} on " in said and "is still at work on it, left over from an earlier run" in said
    os.kill(training, signal.SIGCONT)
    wait_until(lambda: not runs(training))
    assert not (project / TRAINED).exists(), "Snakemake would not know what made it"
    snakemake(project, TRAINED, *SETTINGS)
    assert "resumed at step" in (project / TRAINING_LOG).read_text()
    assert_as_if_nothing_had_happened(project, made)


def test_two_snakemakes_in_one_folder(
    made: Path, project: Path, start: Callable[[Path, str], subprocess.Popen]
) -> None:
    folder = without_shards(project)
    first = start(project, MANIFEST)
    jobs = stopped_writers(folder, first)
    said = snakemake(project, MANIFEST, *SETTINGS, fails=True)
    assert "Directory cannot be locked" in said and "--unlock" in said
    for job in jobs:
        os.kill(job, signal.SIGCONT)
    assert first.wait() == 0
    assert_as_if_nothing_had_happened(project, made)


def test_a_shard_with_flipped_bits(made: Path, project: Path) -> None:
    shard = project / SHARD
    flip_bits(shard, members_middles(shard))
    (problem,) = verify_set(project / MANIFEST)
    assert str(shard) in problem and "delete the shard and run again" in problem
    without_training(project)
    said = snakemake(project, TRAINED, *SETTINGS, fails=True)
    assert f"error: {SHARD}: member 1obj-" in said and "is damaged (its bytes have changed" in said
    assert "delete the shard and run again" in said and "Traceback" not in said
    shard.unlink()
    snakemake(project, SHARD, *SETTINGS)
    assert list(verify_set(project / MANIFEST)) == []
    assert planned(project, SHARD, TRAINED, *SETTINGS) == {TRAINING_RULE: 1}, "nothing else runs again"
    assert digests(project / PAIRS) == digests(made / PAIRS)


def test_a_shard_that_was_cut_short(project: Path) -> None:
    shard = project / SHARD
    os.truncate(shard, shard.stat().st_size - 1000)
    (problem,) = verify_set(project / MANIFEST)
    assert str(shard) in problem and "delete the shard and run again" in problem
    with pytest.raises(InputError, match=rf"{shard}: .*the shard is damaged: delete it and run the workflow again"):
        PairSet(project / MANIFEST)
    shard.unlink()
    assert planned(project, SHARD, TRAINED, *SETTINGS) == {SHARD_RULE: 1}, "what was trained on it was trained before"


def test_a_checkpoint_with_flipped_bits(project: Path) -> None:
    checkpoint = project / TRAINED
    middle = checkpoint.stat().st_size // 2
    flip_bits(checkpoint, list(range(middle, middle + 512)))
    said = snakemake(project, READS_TRAINED, *SETTINGS, fails=True)
    assert f"error: {TRAINED}: not readable as a weight file" in said and "have changed since it was written" in said
    assert "delete it and run again" in said and "Traceback" not in said
    checkpoint.unlink()
    assert planned(project, READS_TRAINED, *SETTINGS) == {TRAINING_RULE: 1, READING_RULE: 1}


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A project with photos and style images of the user's own: those of the demo, that nobody draws anew."""
    folder = copy_project(tmp_path / "own")
    shutil.copytree(made / "resources/demo", folder / "own")
    for note in folder.rglob(".snakemake_timestamp"):
        note.unlink()
    return folder


def test_inputs_that_cannot_be_written(made: Path, own: Path, mount: Callable[..., None]) -> None:
    before = digests(own / "own")
    read_only(mount, own / "own")
    with pytest.raises(OSError, match="Read-only"):
        (own / "own/file").touch()
    snakemake(own, OWN_SHARD, *OWN_INPUTS)
    assert digests(own / "own") == before
    assert (own / OWN_SHARD).read_bytes() == (made / SHARD).read_bytes()


def test_a_folder_of_results_that_cannot_be_written(made: Path, project: Path, mount: Callable[..., None]) -> None:
    (project / MANIFEST).unlink()
    before = digests(project / "results")
    read_only(mount, project / "results")
    said = snakemake(project, MANIFEST, *SETTINGS, fails=True)
    assert f"OSError: [Errno 30] Read-only file system: '{MANIFEST}'" in said, "Snakemake's own words"
    assert digests(project / "results") == before
    mount(project / "results", "-o", "remount,bind,rw", str(project / "results"))
    snakemake(project, MANIFEST, *SETTINGS)
    assert_as_if_nothing_had_happened(project, made)


def test_inputs_from_the_future(made: Path, own: Path) -> None:
    annotations = own / "own/coco/train/annotations.json"
    future = time.time() + 3600
    os.utime(annotations, (future, future))
    said = snakemake(own, OWN_OBJECTS, *OWN_INPUTS, fails=True)
    assert "error: own/coco/train/annotations.json: last modified at" in said and "in the future" in said
    assert "touch 'own/coco/train/annotations.json'" in said
    assert not (own / OWN_OBJECTS).exists()
    annotations.touch()
    snakemake(own, OWN_OBJECTS, *OWN_INPUTS)
    assert (own / OWN_OBJECTS).read_bytes() == (made / OBJECTS).read_bytes()
    assert "Nothing to be done" in snakemake(own, OWN_OBJECTS, *OWN_INPUTS)
