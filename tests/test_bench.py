"""The benchmarks of speed run, and end with their result as JSON; how fast anything is, is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("program", sorted(BENCH.glob("bench_*.py")), ids=lambda path: path.stem)
def test_a_benchmark_ends_with_its_ratios(program):
    done = subprocess.run([sys.executable, str(program), "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result) == {"bench", "ratios", "details"}
    assert f"bench_{result['bench']}" == program.stem
    assert isinstance(result["details"], dict)
    assert result["ratios"]
    assert all(ratio > 0 for ratio in result["ratios"].values())
