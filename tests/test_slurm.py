"""The workflow through a real Slurm of one node, started here: the whole run, and jobs that are killed on their way.

Not part of the ordinary tests: `pytest -m cluster -n 0` runs them where slurm-wlm, munge and the extra `cluster` are.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from workflow_runs import ROOT, copy_project, digests

from segswap.weights import read_state_dict

PATIENCE = 240  # seconds for anything that must happen, on a machine that may be busy

CORES = os.cpu_count() or 1
HALF = max(1, CORES // 2)  # threads of a job: two run side by side

# Also slow, so that `-m "not slow"` leaves them out.
pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def absent() -> str:
    """Return why a Slurm cannot be started here; empty where it can."""
    programs = [name for name in ("munged", "slurmctld", "slurmd", "srun") if not shutil.which(name)]
    if programs:
        return f"{', '.join(programs)} not found: apt-get install --no-install-recommends slurm-wlm munge"
    plugins = ("snakemake_executor_plugin_slurm", "snakemake_executor_plugin_cluster_generic")
    if not all(importlib.util.find_spec(name) for name in plugins):
        return 'Snakemake\'s plugins for clusters not found: pip install -c envs/constraints.txt -e ".[cluster]"'
    return "" if os.geteuid() == 0 else "the daemons of Slurm are started as root"


def free_ports() -> int:
    """Return a port that is free together with the one after it."""
    for port in range(16817, 17817, 2):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no two free ports")


class Slurm:
    """A Slurm of one node; its commands, and what became of its jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "PYTHONPATH")},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PORT": str(free_ports()),
        }

    def control(self, action: str) -> None:
        """Start or stop the daemons."""
        script = ROOT / "tests/slurm/one_node.sh"
        # Output goes to a file: daemons would keep a pipe open.
        with open(self.folder / "control.txt", "a") as log:
            done = subprocess.run(
                [script, action, self.folder], env=self.environment, stdout=log, stderr=log, timeout=60
            )
        assert done.returncode == 0, (self.folder / "control.txt").read_text()

    def __call__(self, *command: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def jobs(self, state: str) -> list[str]:
        """Return the numbers of the jobs in a state."""
        return self("squeue", "--noheader", f"--states={state}", "--format=%i").split()

    def ended(self) -> list[dict[str, str]]:
        """Return what Slurm recorded of the jobs that ended, oldest first."""
        record = self.folder / "log/jobs.txt"
        lines = record.read_text().splitlines() if record.is_file() else []
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if reason := absent():
        pytest.skip(reason)
    # Not below pytest's own folder, which is closed to others: munge refuses a socket there.
    with tempfile.TemporaryDirectory(prefix="segswap-slurm-") as folder:
        node = Slurm(Path(folder))
        try:
            node.control("start")
            yield node
        finally:
            node.control("stop")


def cluster_project(folder: Path) -> Path:
    """Copy what a run needs, and make the edits to the profiles that a user of this cluster would make."""
    copy_project(folder)
    shutil.copy(ROOT / "tests/slurm/demo.yaml", folder / "config/demo.yaml")
    edit(folder, "# gpu_partition: gpu ", "gpu_partition: gpu ")
    edit(folder, "runtime: 10080", "runtime: 90")
    edit(folder, "max-threads: 64 ", f"max-threads: {HALF} ")
    # The node is this machine: looking often costs nothing, and files are there at once.
    edit(folder, "status-checks: 20", "status-checks: 1")
    return folder


def edit(folder: Path, old: str, new: str) -> None:
    """Replace text in the profiles of a copy of the project."""
    found = 0
    for path in folder.glob("profiles/*/config.yaml"):
        text = path.read_text()
        found += text.count(old)
        path.write_text(text.replace(old, new))
    assert found, f"{old!r} is in no profile"


def command(*arguments: str) -> list[str]:
    files = ("config/tiny.yaml", "config/demo.yaml")
    return [sys.executable, "-m", "snakemake", "--configfile", *files, *arguments]


class Run:
    """Snakemake in the background."""

    def __init__(self, slurm: Slurm, folder: Path, *arguments: str) -> None:
        self.log = folder / "snakemake.txt"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command(*arguments), cwd=folder, env=slurm.environment, stdout=log, stderr=subprocess.STDOUT
            )

    def until(self, what: str, happened: Callable[[], object]) -> None:
        """Wait for something to happen while Snakemake runs."""
        patience = time.monotonic() + PATIENCE
        while not happened():
            assert self.process.poll() is None, f"Snakemake ended before {what}\n{self.said()}"
            assert time.monotonic() < patience, f"not seen: {what}\n{self.said()}"
            time.sleep(0.1)

    def said(self) -> str:
        """Return what Snakemake said so far."""
        return self.log.read_text()[-8000:]

    def finish(self, patience: float = PATIENCE) -> str:
        """Wait for the end, which must be a good one, and return what Snakemake said."""
        try:
            code = self.process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)
            pytest.fail(f"Snakemake did not end\n{self.said()}")
        assert code == 0, self.said()
        return self.log.read_text()


SLURM = ("--profile", "profiles/slurm")
GENERIC = ("--profile", "profiles/cluster-generic")


def pairs(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of all pair sets, by its path."""
    return digests(folder / "results/shared/pairs")


@pytest.fixture(scope="module")
def finished(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the demo workflow went through Slurm."""
    folder = cluster_project(tmp_path_factory.mktemp("cluster") / "demo")
    Run(slurm, folder, *SLURM).finish(4 * PATIENCE)
    return folder


def without_shards(finished: Path, folder: Path, kind: str) -> tuple[Path, list[str]]:
    """Copy the finished run less all shards of pairs of a kind; return it and what is missing."""
    shutil.copytree(finished, folder, symlinks=True)
    shards = sorted(folder.glob(f"results/*/pairs/**/{kind}-*.tar"))
    for shard in shards:
        shard.unlink()
        shard.with_suffix(".parquet").unlink()
    assert len(shards) == 3, "two for training, one held out"
    return folder, [str(shard.relative_to(folder)) for shard in shards]


def test_the_demo_workflow_goes_through_slurm(slurm: Slurm, finished: Path) -> None:
    results = finished / "results/tiny"
    for name in ("checkpoints/stage2.pt", "metrics/pairs.json", "tables/summary.csv", "report.html"):
        assert (results / name).stat().st_size > 100
    jobs = slurm.ended()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    said = (finished / "snakemake.txt").read_text()
    submitted = re.findall(r"has been submitted with SLURM jobid (\d+)", said)
    assert sorted(submitted) == sorted(job["JobId"] for job in jobs)
    # Jobs of rules that ask for GPUs went to their partition, others to the default one.
    partitions = dict(re.findall(r"/rule_(\w+?)/.*?(\d+)\.log\)", said))
    partitions = {rule: {job["JobId"]: job["Partition"] for job in jobs}[number] for rule, number in partitions.items()}
    assert partitions["predict_pairs"] == "gpu" and partitions["pretrain_backbone"] == "gpu"
    assert partitions["pair_shard"] == "short" and partitions["metrics_pairs"] == "short"
    # What takes a moment ran where Snakemake did.
    assert not partitions.keys() & {"join_metrics", "summary", "report_page", "plot_history"}
    for light in ("join_metrics", "summary", "report_page"):
        assert f"localrule {light}:" in said


def test_check_gpu_says_what_a_job_gets(slurm: Slurm, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "check"
    shutil.copytree(finished, folder, symlinks=True)
    edit(folder, "gpu_request: gpus ", "gpu_request: gres ")
    edit(folder, "runtime: 90", "runtime: 7")
    said = Run(slurm, folder, *SLURM, "check_gpu").finish()
    assert "gres=gpu:1" in said
    assert re.search(r"CUDA_VISIBLE_DEVICES: *'0'", said), "the pretend GPU was handed out"
    assert re.search(r"Slurm: partition: *gpu", said)
    assert re.search(r"Slurm: time limit: *7:00", said), "no job asks for more than the profile allows"
    if not torch.cuda.is_available():
        assert "NO GPU IS USABLE HERE" in said and "A training would run on the CPU" in said
    assert not (folder / "results/check_gpu.txt").exists(), "so that the next check is a new one"


@pytest.mark.parametrize("profile", [SLURM, GENERIC], ids=["slurm", "cluster-generic"])
def test_a_cancelled_job_is_submitted_again(
    slurm: Slurm, finished: Path, tmp_path: Path, profile: tuple[str, str]
) -> None:
    folder, targets = without_shards(finished, tmp_path / "cancelled", "1obj")
    before = len(slurm.ended())
    run = Run(slurm, folder, *profile, *targets)
    run.until("a running job", lambda: slurm.jobs("RUNNING"))
    cancelled = slurm.jobs("RUNNING")[0]
    slurm("scancel", cancelled)
    said = run.finish()
    assert "Trying to restart job" in said
    jobs = slurm.ended()[before:]
    states = [job["JobState"] for job in jobs]
    assert states.count("CANCELLED") == 1 and states.count("COMPLETED") == 3, "one more submission, and no other"
    memory = {int(re.search(r"mem=(\d+)M", job["Tres"])[1]) for job in jobs if job["JobState"] == "COMPLETED"}
    assert memory == {1500, 3000}, "the second attempt asks for more memory"
    assert pairs(folder) == pairs(finished)


def test_a_node_drained_and_resumed_in_the_middle_loses_nothing(slurm: Slurm, finished: Path, tmp_path: Path) -> None:
    folder, targets = without_shards(finished, tmp_path / "drained", "2obj")
    node = slurm("sinfo", "--noheader", "--partition=short", "--format=%n")
    before = len(slurm.ended())
    # A job takes the whole node, so that the others wait for it.
    run = Run(
        slurm, folder, *SLURM, "--max-threads", str(CORES), "--set-threads", f"pair_shard={CORES}", "--", *targets
    )
    run.until("a job that runs and two that wait", lambda: slurm.jobs("RUNNING") and len(slurm.jobs("PENDING")) == 2)
    slurm("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    run.until("the end of the job that ran", lambda: not slurm.jobs("RUNNING") and not slurm.jobs("COMPLETING"))
    time.sleep(5)
    assert len(slurm.jobs("PENDING")) == 2 and run.process.poll() is None, "nothing starts, and Snakemake waits"
    slurm("scontrol", "update", f"nodename={node}", "state=resume")
    run.finish()
    assert [job["JobState"] for job in slurm.ended()[before:]] == ["COMPLETED"] * 3, "each job ran once"
    assert pairs(folder) == pairs(finished)


def trainings(folder: Path) -> list[int]:
    """Return the processes that train in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"python") and b"workflow/scripts/train_stage.py" in words:
                found += [int(process.name)] if (process / "cwd").resolve() == folder.resolve() else []
        except OSError:
            continue  # ended meanwhile
    return found


def test_a_training_that_meets_its_time_limit_is_resumed(slurm: Slurm, finished: Path, tmp_path: Path) -> None:
    longer = ("results/tiny/checkpoints/stage1.pt", "--config", 'train={"stage1": {"epochs": 30}}')
    folder, uninterrupted = tmp_path / "limited", tmp_path / "uninterrupted"
    for copy in (folder, uninterrupted):
        shutil.copytree(finished, copy, symlinks=True)
    edit(folder, "runtime: 90", "runtime: 1")
    # The limit itself is meant here, not the word of warning, which would come with the start of a job so short.
    edit(folder, "  slurm_extra:", "  # slurm_extra:")
    before = len(slurm.ended())
    run = Run(slurm, folder, *SLURM, *longer)
    run.until("the state of a training", lambda: list(folder.glob("results/tiny/state/stage1/*/state.pt")))
    # From here on it makes no step, so that it meets the limit of a minute on a machine of any speed.
    stopped = trainings(folder)
    assert stopped
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    whole = Run(slurm, uninterrupted, "--cores", str(CORES), "--max-threads", str(HALF), *longer)
    run.finish()
    whole.finish()
    states = [job["JobState"] for job in slurm.ended()[before:]]
    assert states[0] == "TIMEOUT" and states[-1] == "COMPLETED"
    [log] = (folder / "logs/tiny").glob("*stage1.log")
    assert "resumed at epoch" in log.read_text()
    for name in ("stage1.pt", "stage1-last.pt"):
        found, expected = (
            read_state_dict(copy / "results/tiny/checkpoints" / name) for copy in (folder, uninterrupted)
        )
        weights, wanted = found["matcher"], expected["matcher"]
        assert weights.keys() == wanted.keys()
        assert all(torch.equal(weights[key], wanted[key]) for key in wanted), f"{name}: as if never interrupted"
