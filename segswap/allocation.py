"""What a job really has on the machine it runs on: cores, memory, time and GPUs. For looking at a cluster."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from pathlib import Path

import torch

from segswap.errors import InputError
from segswap.threads import available_cores, fair_threads

SLURM_FIELDS = {"partition": "%P", "cores": "%C", "memory": "%m", "time limit": "%l", "time left": "%L"}


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process's control groups leave it, or None where they set no limit.

    Args:
        root: folder under which ``proc/self/cgroup`` and ``sys/fs/cgroup`` are looked for.
    """
    limits = []
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        folder = base / path.lstrip("/")
        # A limit of a group holds for all groups within it.
        for group in (folder, *folder.parents):
            file = group / ("memory.limit_in_bytes" if controllers else "memory.max")
            if file.is_file() and (text := file.read_text().strip()).isdigit():
                limits.append(int(text))
            if group == base:
                break
    # Version 1 writes "no limit" as a number near 2 ** 63.
    limits = [limit for limit in limits if limit < 1 << 60]
    return min(limits, default=None)


def slurm_job() -> dict[str, str]:
    """Return what Slurm says about the job that this process runs in; empty outside of Slurm or where it is silent."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return {}
    query = ["squeue", "--noheader", "--jobs", job, "--format", "|".join(SLURM_FIELDS.values())]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return {"job": job}
    return {"job": job, **dict(zip(SLURM_FIELDS, said.split("|"), strict=False))}


def gigabytes(number: int) -> str:
    """Return a number of bytes in GB."""
    return f"{number / 1e9:.1f} GB"


def describe(device: str, gpus: int) -> str:
    """Return a report of what this process has, line by line, with a verdict on where a training would run.

    Args:
        device: the configuration's ``compute.device``.
        gpus: how many GPUs were asked for.

    Raises:
        InputError: when the configuration wants a GPU and PyTorch can use none; the message holds the report.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_limit()
    lines = {
        "host": f"{socket.gethostname()}, {platform.system()} {platform.release()}, Python {platform.python_version()}",
        "cores": f"{available_cores()} of {os.cpu_count()} may be used; a training starts {fair_threads()} threads",
        "memory": f"{gigabytes(total)} in the machine, "
        + (f"limit of the control group {gigabytes(limit)}" if limit else "no limit by a control group"),
        **{f"Slurm: {name}": value for name, value in slurm_job().items()},
        "CUDA_VISIBLE_DEVICES": "not set" if visible is None else repr(visible),
        "torch": f"{torch.__version__}, built for "
        + (f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs only: it can use no GPU of NVIDIA"),
        "GPUs asked for": str(gpus),
        "GPUs usable": ", ".join(f"{gpu.name} ({gigabytes(gpu.total_memory)})" for gpu in found) or "none",
        "compute.device": device,
    }
    report = "".join(f"{name + ':':<22}{value}\n" for name, value in lines.items())
    if device == "cpu":
        return report + "A training runs on the CPU, as compute.device says.\n"
    if not found:
        verdict = "NO GPU IS USABLE HERE" + (
            " although Slurm or the driver gave one: install the torch of this machine's CUDA"
            if visible and not torch.version.cuda
            else ": ask for one (docs/cluster.md), or look for a driver with nvidia-smi on this node"
        )
        if device.startswith("cuda"):
            raise InputError(f"{verdict}; compute.device is {device!r}, so a training would stop.\n{report}")
        return report + f"{verdict}. A training would run on the CPU.\n"
    if len(found) < gpus:
        return report + f"FEWER GPUS THAN ASKED FOR: {len(found)} of {gpus}. Look at gpu_request in the profile.\n"
    return report + f"A training runs on {gpus} of these GPUs.\n"
