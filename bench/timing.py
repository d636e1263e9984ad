"""What the benchmarks of speed share: ways that take turns, and the line they end with."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable


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


def print_result(bench: str, ratios: dict[str, float], details: dict[str, object]) -> None:
    """Print the result as one line of JSON, with four digits of each number that is not whole.

    Ratios are the plain form's time divided by ours.
    """
    exact = json.dumps({"bench": bench, "ratios": ratios, "details": details})
    print(json.dumps(json.loads(exact, parse_float=lambda digits: float(f"{float(digits):.4g}"))))
