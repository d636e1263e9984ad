"""What the benchmarks of speed share: ways that take turns, the time of parts, memory, and the line they end with."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock


def alternate(ways: dict[str, Callable[[], object]], rounds: int) -> tuple[dict[str, float], dict[str, object]]:
    """Run ways in turn; return the median seconds of each and its last result."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, object] = {}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            found.pop(name, None)
            started = time.perf_counter()
            found[name] = ways[name]()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}, found


def timed(seconds: Counter[str], name: str, function: Callable) -> Callable:
    """Return the function such that its calls add their seconds under a name."""

    def call(*args: object, **kwargs: object) -> object:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] += time.perf_counter() - started

    return call


@contextmanager
def timed_parts(seconds: Counter[str], parts: dict[str, tuple[object, str]]) -> Iterator[None]:
    """Time functions for a while, each given by its owner and its attribute there."""
    with ExitStack() as stack:
        for name, (owner, attribute) in parts.items():
            function = timed(seconds, name, getattr(owner, attribute))
            stack.enter_context(mock.patch.object(owner, attribute, function))
        yield


def largest_memory() -> float:
    """Return the largest memory that this process has had so far, in GB; getrusage would count the parent's, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def print_result(bench: str, ratios: dict[str, float], details: dict[str, object]) -> None:
    """Print the result as one line of JSON, with four digits of each number that is not whole.

    Ratios are the plain form's time divided by ours.
    """
    exact = json.dumps({"bench": bench, "ratios": ratios, "details": details})
    print(json.dumps(json.loads(exact, parse_float=lambda digits: float(f"{float(digits):.4g}"))))
