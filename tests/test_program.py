"""How programs run: exit codes, one-line errors, threads, progress."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from pathlib import Path

import pytest
import torch

from segswap import program
from segswap.errors import InputError
from segswap.progress import progress


@pytest.fixture(autouse=True)
def threads_restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def leave(error: BaseException | None = None) -> SystemExit:
    """Run a program that ends with an error or none; return how it left."""

    def main() -> None:
        if error:
            raise error

    with pytest.raises(SystemExit) as left:
        program.run(main)
    return left.value


def test_success_leaves_with_0():
    assert leave().code == 0


def test_bad_input_is_one_line_without_a_traceback():
    assert leave(InputError("a.json: no such file; make it")).code == "error: a.json: no such file; make it"


def test_interruption_has_a_code_of_its_own(capsys):
    assert leave(program.Interrupted("state saved at step 5")).code == program.INTERRUPTED == 75
    assert capsys.readouterr().err == "interrupted: state saved at step 5\n"


def test_bug_keeps_its_traceback():
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        program.run(main)


@pytest.mark.parametrize(("asked", "expected"), [("1", 1), ("100000", None), ("", None), (None, None)])
def test_threads_are_those_of_the_job_and_no_more_than_there_are_cores(monkeypatch, asked, expected):
    if asked is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    leave()
    assert torch.get_num_threads() == (expected or program.available_cores())


@pytest.mark.parametrize(
    ("threads", "handed_out", "there", "expected"),
    [("4", "8", 2, 1), ("8", "8", 2, 2), ("1", "8", 2, 1), ("4", "8", 8, 4), ("4", "4", 16, 4), ("6", "", 4, 4)],
)
def test_where_more_cores_are_handed_out_than_there_are_a_job_takes_its_share(
    monkeypatch, threads, handed_out, there, expected
):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setenv("SEGSWAP_CORES", handed_out)
    monkeypatch.setattr(program, "available_cores", lambda: there)
    assert program.fair_threads() == expected


def test_available_cores_are_those_this_process_may_use():
    assert program.available_cores() == len(os.sched_getaffinity(0)) >= 1


def test_progress_passes_the_items_on_and_names_the_work(capsys):
    assert list(progress(range(5), "shards")) == list(range(5))
    assert "shards" in capsys.readouterr().err


def test_progress_goes_on_where_work_stopped(capsys):
    bar = progress(iter(range(3)), "steps", total=10, initial=7)
    assert list(bar) == [0, 1, 2]
    assert (bar.n, bar.total) == (10, 10)


def test_progress_in_a_log_is_rare_and_plain(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    for _ in progress(range(20_000), "pairs"):
        pass
    log = capsys.readouterr().err
    assert log.count("pairs:") <= 3
    assert log.isascii()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "shard.tar"), "the disk is full .*make room and start again"),
        (OSError(errno.EROFS, "Read-only file system", "shard.tar"), "may not do so .*folders of outputs writable"),
        (PermissionError(errno.EACCES, "Permission denied", "shard.tar"), "may not do so .*inputs must be readable"),
    ],
)
def test_what_a_user_can_put_right_is_one_line_that_names_the_file(error, said):
    message = leave(error).code
    assert re.search(said, message) and "shard.tar" in message and "\n" not in message


def test_other_system_errors_are_not_hidden():
    def broken() -> None:
        raise OSError(errno.EIO, "Input/output error", "shard.tar")

    with pytest.raises(OSError, match="Input/output"):
        program.run(broken)


# Inputs from the future


def later(path: Path, seconds: float) -> Path:
    moment = time.time() + seconds
    os.utime(path, (moment, moment))
    return path


@pytest.fixture
def old(tmp_path) -> Path:
    path = tmp_path / "annotations.json"
    path.write_text("{}")
    return path


def test_an_input_from_the_future_is_refused_with_the_remedy(old, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program.py", "--annotations", str(later(old, 3600))])
    assert re.search(rf"error: {old}: last modified at .*in the future.*touch '{old}'", leave().code)
    old.touch()
    assert leave().code == 0


def test_a_command_that_is_no_job_reads_what_it_is_given(old, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["segswap", "info", str(later(old, 3600))])
    with pytest.raises(SystemExit) as left:
        program.run(lambda: None, check_times=False)
    assert left.value.code == 0


def test_a_link_and_the_note_of_a_folder_count_as_they_do_for_snakemake(old, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(later(old, 86400))
    with pytest.raises(InputError, match=r"link\.json"):
        program.refuse_the_future([str(link)])
    folder = tmp_path / "images"
    folder.mkdir()
    program.refuse_the_future([str(folder)])
    (folder / ".snakemake_timestamp").touch()
    later(folder / ".snakemake_timestamp", 86400)
    with pytest.raises(InputError, match="images"):
        program.refuse_the_future([str(folder)])


def test_clocks_may_differ_a_little_and_a_file_server_may_have_its_own(old, tmp_path, monkeypatch):
    program.refuse_the_future(["--seed", "1", '{"size": 96}', "\0", "x" * 5000, str(later(old, 30))])
    # This machine's clock is an hour behind that of the file system that it works on.
    old.touch()
    now = time.time()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    program.refuse_the_future([str(old)])
