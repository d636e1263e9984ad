"""Processes side by side: whatever happens to one of them, the program says so and ends."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segswap import workers
from segswap.errors import InputError
from segswap.workers import process_pool

FEWER = "lower the number"


def refuse(reason: str) -> None:
    raise InputError(reason)


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (signal.SIGKILL, "was killed, by hand or for want of memory"),
        (signal.SIGBUS, "ended by signal SIGBUS; shared memory may have run out"),
        (signal.SIGSEGV, "ended by signal SIGSEGV"),
        (signal.SIGSTOP, "was stopped (SIGSTOP)"),
    ],
)
def test_a_process_that_ends_or_stops_ends_the_pool_and_is_named(number, cause, monkeypatch):
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.1)
    with pytest.raises(InputError) as error, process_pool(2, FEWER) as pool:
        process = pool.submit(os.getpid).result()
        waiting = pool.map(time.sleep, [60] * 4)
        os.kill(process, number)
        list(waiting)
    assert cause in str(error.value) and str(error.value).endswith(f"; {FEWER}")
    assert not multiprocessing.active_children()


def test_a_process_that_leaves_by_itself_is_told_by_its_status():
    with pytest.raises(InputError, match="ended by itself with status 7"), process_pool(2, FEWER) as pool:
        pool.submit(os._exit, 7).result()


def test_an_error_in_a_process_comes_out_as_it_is():
    with pytest.raises(InputError, match=r"^photo\.jpg: empty$"), process_pool(1, FEWER) as pool:
        pool.submit(refuse, "photo.jpg: empty").result()


def test_a_stop_signal_is_left_to_the_program():
    with process_pool(1, FEWER) as pool:
        process = pool.submit(os.getpid).result()
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(process, number)
        assert pool.submit(os.getpid).result() == process


def test_a_process_stopped_for_a_moment_goes_on(monkeypatch):
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.5)
    with process_pool(1, FEWER) as pool:
        process = pool.submit(os.getpid).result()
        os.kill(process, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(process, signal.SIGCONT)
        time.sleep(0.8)
        assert pool.submit(os.getpid).result() == process


def test_where_processes_cannot_be_started_the_remedy_is_said():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be started.*, or lower the number$"), process_pool(1, FEWER):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


KILLED = """
import os, time
from segswap.workers import process_pool
with process_pool(2, "") as pool:
    pids = {pool.submit(os.getpid).result() for _ in range(4)}
    print(*pids, flush=True)
    list(pool.map(time.sleep, [60, 60]))
"""


def test_the_processes_of_a_killed_program_end_too():
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as program:
        pids = program.stdout.readline().split()
        program.kill()
    assert pids
    until = time.monotonic() + 20
    while any(Path("/proc", pid).exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path("/proc", pid).exists() for pid in pids)
