"""Runs of the real Snakefile in a folder of their own, for the tests of the workflow and of its failures."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = ("Snakefile", "workflow", "config", "profiles", "envs", "segswap")


def copy_project(folder: Path) -> Path:
    """Copy what a run needs, so that the checkout's own results stay untouched."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source, target = ROOT / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    shutil.copy(ROOT / "tests/tiny.yaml", folder / "config/tiny.yaml")
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--configfile", "config/tiny.yaml", "--cores", "2", *arguments]


def snakemake(folder: Path, *arguments: str, fails: bool = False) -> str:
    """Run Snakemake and return what it says."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, env=environment)
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said[-6000:]
    return said


def planned(folder: Path, *arguments: str) -> dict[str, int]:
    """Return how many jobs of each rule a dry run plans."""
    said = snakemake(folder, "--quiet", "rules", "-n", *arguments)
    jobs: dict[str, int] = {}
    for line in said.splitlines():
        words = line.split()
        if len(words) == 2 and words[1].isdigit() and words[0] not in ("total", "all", "pairs", "models", "benchmarks"):
            jobs[words[0]] = int(words[1])
    return jobs


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder but the times of jobs, by its relative path; links are followed."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files_below(folder)
        if path.parent.name != "benchmarks"
    }


def files_below(folder: Path) -> list[Path]:
    """Return every file of a folder, in order; links are followed."""
    return sorted(Path(where, name) for where, _, names in os.walk(folder, followlinks=True) for name in names)
