"""Processes that work side by side: a pool whose user never waits for a process that is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from segswap.errors import InputError

LOOK_SECONDS = 10.0
"""Between two looks at the processes; one that is stopped at both is ended."""


@contextlib.contextmanager
def process_pool(
    count: int, fewer: str, start: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes; an error, or Ctrl-C, ends it when each has done the piece that it is at.

    A signal that asks the program to stop often reaches the processes too. They leave it to the program, and end when
    the program does, however that is.

    Processes are not forked from this one: its threads would not be there, and a library that waits for one of its own
    waits forever. They are forked from a server process that has none.

    Args:
        count: of processes.
        fewer: what a user can do to need fewer processes, or none, for the message.
        start: is called in each process before its first piece, with ``arguments``; the server imports its module.

    Raises:
        InputError: when a process ends before its work does (killed by hand, for want of memory, by a fault), or is
            stopped; or when processes cannot be started.
    """
    context = multiprocessing.get_context("forkserver")
    if start:
        context.set_forkserver_preload([start.__module__])
    try:
        pool = ProcessPoolExecutor(count, context, _begin, (start, arguments))
    except OSError as error:  # its locks lie in shared memory
        raise InputError(
            f"worker processes cannot be started ({error}); make room in /dev/shm and let it be written to, or {fewer}"
        ) from None
    # The pool tells that a process has ended, and not how.
    workers, stopped, done = pool._processes, [], threading.Event()
    threading.Thread(target=_end_stopped, args=(workers, stopped, done), daemon=True).start()
    try:
        yield pool
    except BrokenProcessPool as broken:
        # The pool asks those that are left to stop, which they ignore, and waits for them.
        for process in list(workers.values()):
            process.kill()
        pool.shutdown()
        codes = [process.exitcode for process in workers.values()]
        raise InputError(f"{_cause(broken, codes, stopped)}; {fewer}") from None
    finally:
        done.set()
        pool.shutdown(cancel_futures=True)


def _begin(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_program, daemon=True).start()
    if start:
        start(*arguments)


def _end_with_program() -> None:
    # A program that is killed cannot end its processes: each would wait for its next piece forever.
    multiprocessing.parent_process().join()
    os._exit(1)


def _is_stopped(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False  # no /proc, or it has just ended


def _end_stopped(processes: Collection[int], ended: list[int], done: threading.Event) -> None:
    """Kill processes that are stopped, and list them, until there is no more to do: the program would wait for them."""
    before: set[int] = set()
    while not done.wait(LOOK_SECONDS):
        # A program that was stopped as a whole, and goes on, may find its processes a moment behind.
        now = {process for process in list(processes) if _is_stopped(process)}
        for process in now & before:
            ended.append(process)
            os.kill(process, signal.SIGKILL)
        before = now


def _cause(broken: BrokenProcessPool, codes: list[int | None], stopped: list[int]) -> str:
    """Return why a pool broke, given how its processes ended; those that were left were ended by this program."""
    if stopped:
        return f"worker process {stopped[0]} was stopped (SIGSTOP) and did not go on"
    if broken.__cause__:
        said = str(broken.__cause__).strip(" \n'\"").splitlines()[-1]
        return f"what a worker process sent could not be received ({said})"
    own = [code for code in codes if code not in (0, None, -signal.SIGKILL, -signal.SIGTERM)]
    if not own:
        return "a worker process was killed, by hand or for want of memory; make more memory available"
    if own[0] > 0:
        return f"a worker process ended by itself with status {own[0]}, see above"
    name = signal.Signals(-own[0]).name
    memory = "; shared memory may have run out, make /dev/shm larger" if name == "SIGBUS" else ""
    return f"a worker process ended by signal {name}{memory}"
