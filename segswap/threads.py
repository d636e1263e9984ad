"""How many threads a program starts, and how it gets along with what else the machine does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

LOOKS_APART = 1.0
"""Seconds between two looks at what other processes do."""

UNNOTICED = 0.4
"""Share of a core that others may use before a thread makes room for them."""


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def fair_threads() -> int:
    """Return how many threads this program should start.

    Snakemake states a job's threads in ``OMP_NUM_THREADS``, and the workflow in ``SEGSWAP_CORES`` how many cores
    Snakemake hands out. Where there are fewer, each job takes its share of what is there: threads of several
    jobs on one core wait for each other, which makes everything several times slower.
    """
    available = available_cores()
    threads = int(os.environ.get("OMP_NUM_THREADS") or available)
    handed_out = int(os.environ.get("SEGSWAP_CORES") or 0)
    if handed_out > available:
        threads = threads * available // handed_out
    # Processes that torchrun started on this machine share the job's threads.
    threads //= int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return max(1, min(threads, available))


def limit_threads() -> None:
    """Hold the libraries that are loaded to ``fair_threads``, so that jobs side by side do not fight."""
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(fair_threads())


def making_room(items: Iterable[T]) -> Iterator[T]:
    """Yield items; between them, PyTorch's threads become as few as the cores that other processes leave free.

    Threads share each operation and wait for the last of them, awake. Where one has no core of its own, every operation
    takes as long as its turn on a core that something else has. A training becomes 4 to 30 times slower, not twice.
    Threads that make room become more again when the others have gone. Threads are never more than at the start, and at
    the end as many.

    The number of threads changes the last digits of what is computed; a program of one thread repeats its results.
    """
    torch = sys.modules.get("torch")
    most = torch.get_num_threads() if torch else 1
    if most == 1:
        yield from items
        return
    try:
        looked, others = time.monotonic(), _busy_seconds() - time.process_time()
        for item in items:
            if (now := time.monotonic()) - looked >= LOOKS_APART:
                before, others = others, _busy_seconds() - time.process_time()
                torch.set_num_threads(threads_beside((others - before) / (now - looked), available_cores(), most))
                looked = now
            yield item
    finally:
        torch.set_num_threads(most)


def threads_beside(others: float, cores: int, most: int) -> int:
    """Return how many threads have a core of their own: 1 to ``most``.

    Args:
        others: cores that other processes keep busy, on average.
        cores: that there are.
        most: threads that are wanted.
    """
    return max(1, min(most, int(cores - others + UNNOTICED)))


def _busy_seconds() -> float:
    """Return how many seconds the cores of this process have worked, for whomever, since the machine started."""
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    rows = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    # user, nice, system, idle, iowait, irq, softirq
    ticks = sum(sum(map(int, (*row[1:4], *row[6:8]))) for row in rows if row[0] in mine)
    return ticks / os.sysconf("SC_CLK_TCK")
