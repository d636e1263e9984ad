"""How a command-line program of the workflow runs: settings, threads, clear errors, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from segswap.errors import InputError

T = TypeVar("T")
INTERRUPTED = 75
"""Exit code (``EX_TEMPFAIL``) of a job that stopped in good order and can go on when started again."""


CLOCKS_AGREE = 60.0
"""Seconds by which the clocks of machines may differ; a job that takes as long does not notice."""


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


def _modified(path: Path) -> float:
    """Return the newest time that Snakemake may take for a path's: a link's or its target's, or a folder's note."""
    times = [path.lstat().st_mtime]
    for other in (path, path / ".snakemake_timestamp"):
        with contextlib.suppress(OSError):
            times.append(other.stat().st_mtime)
    return max(times)


def refuse_the_future(arguments: Iterable[str]) -> None:
    """Refuse inputs that are newer than now: Snakemake would find what is made from them older than they are.

    It says so when the job has done its work, deletes the outputs and does the work again in the next run. So a
    program looks before it starts. Now is the time that a file gets which is written here: a file server has a clock
    of its own.

    Args:
        arguments: of the program; those that are not names of existing files or folders are passed over.

    Raises:
        InputError: naming the first such input.
    """
    for argument in arguments:
        path = Path(argument)
        try:
            modified = _modified(path)
        except (OSError, ValueError):
            continue
        if modified <= time.time() + CLOCKS_AGREE:
            continue
        try:
            with tempfile.TemporaryFile(dir=".") as file:
                now = os.fstat(file.fileno()).st_mtime
        except OSError:
            now = time.time()
        if modified > now + CLOCKS_AGREE:
            when, today = (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) for moment in (modified, now))
            raise InputError(
                f"{path}: last modified at {when}, which is in the future (it is {today}); what is made from it would "
                f"count as older and be made again in every run. Set the clock right, or the time: touch '{path}' (a "
                "copy's, where the file itself cannot be changed), and start again"
            )


def run(main: Callable[[], None], check_times: bool = True) -> NoReturn:
    """Run a program: what a user can put right becomes one line and status 1, ``Interrupted`` status 75.

    That is ``InputError``, a full disk, and a folder that may not be written. Libraries are held to
    ``fair_threads``, so that jobs side by side do not fight.

    Args:
        main: the program.
        check_times: whether it is a job of the workflow, whose inputs must not come from the future.
    """
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(fair_threads())
    try:
        if check_times:
            refuse_the_future(sys.argv[1:])
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(f"error: the disk is full ({error}); make room and start again: nothing half written was left")
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            sys.exit(
                f"error: this user may not do so ({error}); inputs must be readable and the folders of outputs "
                "writable. Change that and start again: nothing half written was left"
            )
        raise
    except Interrupted as reason:
        print(f"interrupted: {reason}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(0)
