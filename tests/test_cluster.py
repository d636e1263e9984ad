"""What a cluster needs of the workflow, without a cluster: how GPUs are asked for, what a job says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segswap.allocation import describe, memory_limit, slurm_job
from segswap.errors import InputError

ROOT = Path(__file__).parent.parent


def program(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def dry_run(tmp_path: Path, *resources: str) -> tuple[int, str]:
    """Plan a job with GPUs and one without, with default resources as a profile gives them; return what is said."""
    targets = ("check_gpu", "pairs_1obj")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path,
         "--configfile", ROOT / "tests/tiny.yaml", "--workflow-profile", "none",
         "--default-resources", *resources, "--", *targets],
        capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def planned(tmp_path: Path, *resources: str) -> tuple[set[str], set[str]]:
    """Return the resources of the job with GPUs and of the one without, each as ``name=value``."""
    code, said = dry_run(tmp_path, *resources)
    assert code == 0, said
    found = {}
    for line in said.splitlines():
        words = line.split()
        if words[:1] == ["rule"]:
            rule = words[1].rstrip(":")
        elif words[:1] == ["resources:"]:
            found[rule] = set(line.split("resources:")[1].replace(",", " ").split())
    return found["look_around"], found["pair_shard"]


def names(resources: set[str]) -> set[str]:
    """Return the names of resources."""
    return {resource.partition("=")[0] for resource in resources}


def test_gpus_are_asked_for_as_the_profile_says(tmp_path: Path) -> None:
    gpu, cpu = planned(tmp_path, "mem_mb=500")
    assert "gpu=1" in gpu and "gpu=0" in cpu and not {"gres", "gpu_model"} & names(gpu | cpu)
    gpu, cpu = planned(tmp_path, "gpu_request=gpus:a100")
    assert {"gpu=1", "gpu_model=a100"} <= gpu
    assert "gpu_model" not in names(cpu), "the plugin would ask for a GPU of that model"
    gpu, cpu = planned(tmp_path, "gpu_request=gres", "slurm_partition=cpu", "gpu_partition=big")
    assert {"gres=gpu:1", "slurm_partition=big"} <= gpu
    assert "gpu=0" in gpu, "the plugin would ask twice"
    assert "slurm_partition=cpu" in cpu and "gres" not in names(cpu)
    gpu, cpu = planned(tmp_path, "gpu_request=gres:a100", "gpu_partition=big")
    assert "gres=gpu:a100:1" in gpu and "slurm_partition" not in names(cpu), "left to Slurm"


def test_an_unknown_form_of_asking_for_gpus_is_named(tmp_path: Path) -> None:
    code, said = dry_run(tmp_path, "gpu_request=cuda")
    assert code != 0
    assert "gpu_request is 'cuda'" in said and "expected gpus, gres" in said
    assert "Traceback" not in said


def test_the_memory_limit_is_the_smallest_of_the_control_groups(tmp_path: Path) -> None:
    groups = tmp_path / "proc/self/cgroup"
    groups.parent.mkdir(parents=True)
    assert memory_limit(tmp_path / "elsewhere") is None
    groups.write_text("0::/slurm/job_7/step_0\n")
    step = tmp_path / "sys/fs/cgroup/slurm/job_7/step_0"
    step.mkdir(parents=True)
    (step / "memory.max").write_text("max\n")
    assert memory_limit(tmp_path) is None
    (step.parent / "memory.max").write_text("4000000000\n")
    assert memory_limit(tmp_path) == 4_000_000_000, "a group within another has its limit too"


def test_the_memory_limit_of_the_first_version_of_control_groups(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:cpu,cpuacct:/\n2:memory:/slurm/job_7\n")
    job = tmp_path / "sys/fs/cgroup/memory/slurm/job_7"
    job.mkdir(parents=True)
    (job / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_limit(tmp_path) is None, "a number that means: no limit"
    (job / "memory.limit_in_bytes").write_text("2000000\n")
    assert memory_limit(tmp_path) == 2_000_000


def test_slurm_is_asked_about_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert slurm_job() == {}
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program(tmp_path / "squeue", "echo 'long|8|4000M|1-00:00:00|23:59:00'")
    found = slurm_job()
    assert found["job"] == "41" and found["partition"] == "long" and found["time limit"] == "1-00:00:00"
    program(tmp_path / "squeue", "exit 1")
    assert slurm_job() == {"job": "41"}, "what a job has must not depend on Slurm answering"


def test_without_a_gpu_the_report_says_where_a_training_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    report = describe("auto", 1)
    assert "NO GPU IS USABLE HERE" in report and report.endswith("A training would run on the CPU.\n")
    assert "not set" in report and f"of {os.cpu_count()} may be used" in report
    assert "as compute.device says" in describe("cpu", 1)
    with pytest.raises(InputError, match="'cuda', so a training would stop"):
        describe("cuda", 1)


def test_fewer_gpus_than_asked_for_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name, total_memory = "Some GPU", 80_000_000_000

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: Properties())
    assert "Some GPU (80.0 GB)" in describe("auto", 1) and "A training runs on 1 of these GPUs" in describe("auto", 1)
    assert "FEWER GPUS THAN ASKED FOR: 1 of 2" in describe("auto", 2)


@pytest.mark.parametrize(
    ("state", "said"),
    [("COMPLETED", "success"), ("RUNNING", "running"), ("PENDING", "running"), ("COMPLETING", "running"),
     ("FAILED", "failed"), ("TIMEOUT", "failed"), ("CANCELLED", "failed"), ("OUT_OF_MEMORY", "failed")],
)  # fmt: skip
def test_the_status_script_knows_the_states_of_slurm(tmp_path: Path, state: str, said: str) -> None:
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ROOT / "profiles/cluster-generic/status.sh"
    program(tmp_path / "squeue", f"echo {state}")
    program(tmp_path / "sacct", "exit 1")
    assert subprocess.run([script, "7"], env=environment, capture_output=True, text=True).stdout == f"{said}\n"
    # A job that Slurm's controller forgot is looked up in the accounting.
    program(tmp_path / "squeue", "exit 1")
    program(tmp_path / "sacct", f"echo '{state} by 0'" if state == "CANCELLED" else f"echo {state}")
    assert subprocess.run([script, "7"], env=environment, capture_output=True, text=True).stdout == f"{said}\n"
