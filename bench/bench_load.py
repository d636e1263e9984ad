"""A training beside a busy program, with threads that make room and with threads that are held, in turn.

    python bench/bench_load.py --quick         # half a minute
    python bench/bench_load.py                 # two minutes

A training step of the demo's size runs on all cores, alone and beside one busy program of another session: Linux gives
the session as much of a core as a training. The ratio ``beside`` is the time of a step with held threads divided by
that with threads that make room, beside the busy program; ``alone`` is the same without one. The details hold the
seconds. Their ``slower`` says how many times slower a step is beside the busy program than alone, when threads make
room.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from timing import print_result
from torch.nn import functional as F

from segswap.models.transformer import Transformer, TransformerSettings
from segswap.progress import progress
from segswap.threads import LOOKS_APART, available_cores


@contextlib.contextmanager
def busy_program() -> Iterator[None]:
    """Run a program of another session that keeps one core busy."""
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
    try:
        yield
    finally:
        program.kill()
        program.wait()


def step_seconds(makes_room: bool, seconds: float) -> float:
    """Return the median time of a training step; threads have had time to make room."""
    torch.manual_seed(0)
    model = Transformer(TransformerSettings("tiny", 128, dropout=0.0)).train()
    x, y = (F.normalize(torch.randn(10, 128, 10, 10), dim=1) for _ in range(2))
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)
    started, times = time.perf_counter(), []
    for _ in progress(itertools.count(), "steps", makes_room=makes_room, disable=True):
        begun = time.perf_counter()
        optimiser.zero_grad()
        sum(side.square().sum() for side in model(x, y, None, None)).backward()
        optimiser.step()
        ended = time.perf_counter()
        if begun - started > 2 * LOOKS_APART:
            times.append(ended - begun)
        if times and ended - started > seconds + 2 * LOOKS_APART:
            break
    return statistics.median(times)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of short runs")
    args = parser.parse_args()
    rounds, seconds = (1, 3.0) if args.quick else (3, 8.0)
    torch.set_num_threads(available_cores())
    measured: dict[str, list[float]] = {}
    for _ in range(rounds):
        for where, around in (("alone", contextlib.nullcontext), ("beside", busy_program)):
            with around():
                for threads, makes_room in (("held", False), ("making room", True)):
                    measured.setdefault(f"{where}, {threads}", []).append(step_seconds(makes_room, seconds))
    found = {name: statistics.median(times) for name, times in measured.items()}
    ratios = {where: found[f"{where}, held"] / found[f"{where}, making room"] for where in ("alone", "beside")}
    slower = found["beside, making room"] / found["alone, making room"]
    print_result("load", ratios, {"cores": available_cores(), "seconds": found, "slower": slower})


if __name__ == "__main__":
    main()
