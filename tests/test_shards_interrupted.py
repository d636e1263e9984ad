"""A job that dies while it writes a shard leaves nothing under the final name."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segswap.pairs.render import Photos
from segswap.pairs.shards import write_shard

JOB = """
import json, resource, sys
from segswap.pairs.objects import ObjectTable
from segswap.pairs.recipe import PairSettings
from segswap.pairs.render import Photos
from segswap.pairs.shards import write_shard

objects, images, tar, settings, n_pairs, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
write_shard(
    Photos(ObjectTable.read(objects), images), PairSettings(**json.loads(settings)), None, None, (1, "1obj"),
    range(int(n_pairs)), tar, tar.replace(".tar", ".parquet"), 95, 0.05,
)
"""


def start(world, tar: Path, n_pairs: int, limit: int = 0) -> subprocess.Popen:
    """Start a process that writes a shard; ``limit`` is the largest file in bytes that it may write."""
    settings = json.dumps(dataclasses.asdict(world.pair_settings))
    arguments = [str(world.objects), str(world.images), str(tar), settings, str(n_pairs), str(limit)]
    return subprocess.Popen([sys.executable, "-c", JOB, *arguments], stderr=subprocess.PIPE, text=True)


@pytest.fixture
def tar(tmp_path) -> Path:
    return tmp_path / "1obj-000000.tar"


def visible(folder: Path) -> list[str]:
    """Return the names in a folder that a reader of shards would see."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_killed_job_leaves_nothing_under_the_final_name_and_can_be_run_again(tiny_world, tar):
    job = start(tiny_world, tar, 100_000)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 100_000 for path in tar.parent.glob(".*.tmp")):
        assert job.poll() is None, job.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert job.returncode == -signal.SIGKILL
    assert visible(tar.parent) == []
    write_shard(
        Photos(tiny_world.table(), tiny_world.images),
        tiny_world.pair_settings,
        None,
        None,
        (1, "1obj"),
        range(2),
        tar,
        tar.with_suffix(".parquet"),
        95,
        0.05,
    )
    assert visible(tar.parent) == ["1obj-000000.parquet", "1obj-000000.tar"]


def test_job_that_may_not_write_more_leaves_nothing_at_all_and_says_so(tiny_world, tar):
    job = start(tiny_world, tar, 40, limit=200_000)
    _, log = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "File too large" in log
    assert list(tar.parent.iterdir()) == []
