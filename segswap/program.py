"""How a command-line program of the workflow runs: settings, threads, clear errors, exit codes."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from segswap.errors import InputError

T = TypeVar("T")
INTERRUPTED = 75
"""Exit code (``EX_TEMPFAIL``) of a job that stopped in good order and can go on when started again."""


class Interrupted(Exception):
    """Raised by long work that was asked to stop and has saved its state."""


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


def json_value(text: str) -> Any:
    """Parse a command-line value as JSON, for ``argparse``'s ``type``."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): {text!r}") from None


def settings(kind: type[T]) -> Callable[[str], T]:
    """Return a parser of a settings dataclass from a JSON object, for ``argparse``'s ``type``."""

    def parse(text: str) -> T:
        values = json_value(text)
        known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        if not isinstance(values, dict) or set(values) != known:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise argparse.ArgumentTypeError(f"{kind.__name__} needs the keys {sorted(known)}, found {found}")
        return kind(**values)

    return parse


def run(main: Callable[[], None]) -> NoReturn:
    """Run a program: ``InputError`` and a full disk become one line and status 1, ``Interrupted`` status 75.

    Libraries are held to ``fair_threads``, so that jobs side by side do not fight.
    """
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(fair_threads())
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(f"error: the disk is full ({error}); make room and start again: nothing half written was left")
    except Interrupted as reason:
        print(f"interrupted: {reason}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(0)
