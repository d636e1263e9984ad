"""How programs run: exit codes, one-line errors, threads, progress."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segswap import program, threads
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
    assert torch.get_num_threads() == (expected or threads.available_cores())


@pytest.mark.parametrize(
    ("asked", "handed_out", "there", "expected"),
    [("4", "8", 2, 1), ("8", "8", 2, 2), ("1", "8", 2, 1), ("4", "8", 8, 4), ("4", "4", 16, 4), ("6", "", 4, 4)],
)
def test_where_more_cores_are_handed_out_than_there_are_a_job_takes_its_share(
    monkeypatch, asked, handed_out, there, expected
):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setenv("SEGSWAP_CORES", handed_out)
    monkeypatch.setattr(threads, "available_cores", lambda: there)
    assert threads.fair_threads() == expected


def test_available_cores_are_those_this_process_may_use():
    assert threads.available_cores() == len(os.sched_getaffinity(0)) >= 1


@pytest.mark.parametrize(
    ("others", "cores", "most", "expected"),
    [(0.0, 2, 2, 2), (0.3, 2, 2, 2), (0.6, 2, 2, 1), (1.0, 2, 2, 1), (7.9, 2, 2, 1), (6.0, 8, 2, 2), (3.2, 8, 8, 5)],
)
def test_threads_have_a_core_of_their_own_beside_other_programs(others, cores, most, expected):
    assert threads.threads_beside(others, cores, most) == expected


def test_threads_make_room_for_busy_programs_and_come_back(monkeypatch):
    # More than the tests' one, and of programs that keep every core busy.
    monkeypatch.setattr(threads, "LOOKS_APART", 0.3)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(threads.available_cores())]
    try:
        found = []
        for _ in progress(range(8), "steps"):
            time.sleep(0.2)
            found.append(torch.get_num_threads())
        held = [
            torch.get_num_threads() for _ in progress(range(3), "steps", makes_room=False) if time.sleep(0.2) is None
        ]
    finally:
        for each in busy:
            each.kill()
            each.wait()
        after = torch.get_num_threads()
        torch.set_num_threads(before)
    assert found[0] == 2 and found[-1] == 1
    assert held == [2, 2, 2] and after == 2


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


# Paths


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "data/list.txt"), "no such file or folder"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "data"), "is a folder; expected a file"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "out/run/a.json"), "expected a folder"),
        (FileExistsError(errno.EEXIST, "File exists", "out"), "is a file; expected a folder, or nothing"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".x.tmp", None, "out/run/a.json"), "expected a file"),
    ],
)
def test_a_wrong_path_of_the_users_is_one_line(monkeypatch, error, said):
    monkeypatch.setattr(sys, "argv", ["program.py", "--folder", "data", "--output", "out/run/a.json", "-v"])
    message = leave(error).code
    assert said in message and str(error.filename2 or error.filename) in message and "\n" not in message


@pytest.mark.parametrize("path", ["/usr/lib/none.so", "other/list.txt", "datasets", 7, None])
def test_a_missing_file_that_the_user_never_named_is_a_bug(monkeypatch, path):
    monkeypatch.setattr(sys, "argv", ["program.py", "--folder", "data", "--number", "7", "--flag", ""])

    def main() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    with pytest.raises(FileNotFoundError):
        program.run(main)


# Ctrl-C, and readers that leave


def started(code: str, **streams: int) -> subprocess.Popen:
    """Start a program of its own whose ``main`` is the code."""
    whole = f"from segswap.program import run\n\ndef main():\n{textwrap.indent(code, '    ')}\n\nrun(main)"
    return subprocess.Popen([sys.executable, "-c", whole], text=True, **streams)


def test_ctrl_c_is_one_line_and_a_status_of_its_own():
    code = "print('at work', flush=True)\nimport signal; signal.pause()"
    with started(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said == "interrupted: by Ctrl-C; nothing half written was left\n"


def test_ctrl_c_reaches_the_processes_of_a_pool_and_one_line_comes_out(tmp_path):
    code = f"""
from segswap.demo_world.coco import draw_coco
print("at work", flush=True)
draw_coco({str(tmp_path / "coco")!r}, 1, "train", 5000, 2)
"""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    with started(code, **streams) as process:
        assert process.stdout.readline() == "at work\n"
        while not list(tmp_path.glob(".coco*/images/*")) and process.poll() is None:
            pass
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in said and said.endswith("interrupted: by Ctrl-C; nothing half written was left\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "code", ["for n in range(100_000):\n    print(n)", "print('one line, sent when the program ends')"]
)
def test_a_reader_that_leaves_ends_the_program_without_a_word(code):
    read, write = os.pipe()
    os.close(read)
    with started(code, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (141, "")


def test_a_broken_pipe_of_the_programs_own_is_a_bug():
    code = "import os\nread, write = os.pipe()\nos.close(read)\nos.write(write, b'x')"
    with started(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "Traceback" in said and "BrokenPipeError" in said


# Values on the command line


@given(st.integers(-50, 50), st.integers(-100, 100), st.integers(1, 16))
def test_a_whole_number_is_one_that_fits_or_wrong_usage(minimum, number, step):
    parse = program.whole_number(minimum, step)
    if number >= minimum and number % step == 0:
        assert parse(str(number)) == number
    else:
        with pytest.raises(argparse.ArgumentTypeError, match=f"{minimum} or more"):
            parse(str(number))


@pytest.mark.parametrize("text", ["", "x", "1.5", "1e3"])
def test_what_is_no_whole_number_is_wrong_usage(text):
    with pytest.raises(argparse.ArgumentTypeError, match="a whole number, 0 or more"):
        program.whole_number(0)(text)


@pytest.mark.parametrize("text", ["[1]", "3", "null", '"a"', "{", "", "{'a': 1}"])
def test_a_section_is_an_object_of_json(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"JSON"):
        program.json_object(text)
    assert program.json_object('{"a": [1]}') == {"a": [1]}


@dataclasses.dataclass(frozen=True)
class Knobs:
    left: int
    right: int = 7


def test_settings_need_every_field_without_a_default_and_no_other():
    parse = program.settings(Knobs)
    assert parse('{"left": 1}') == Knobs(1) and parse('{"left": 1, "right": 2}') == Knobs(1, 2)
    for text in ('{"right": 2}', '{"left": 1, "top": 2}', "{}"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"needs the keys \['left'\], and may have \['right'\]"):
            parse(text)


@dataclasses.dataclass(frozen=True)
class Panel:
    size: int
    knobs: Knobs = Knobs(1)


def test_settings_may_hold_settings():
    parse = program.settings(Panel)
    assert parse('{"size": 3}') == Panel(3, Knobs(1))
    assert parse('{"size": 3, "knobs": {"left": 4}}') == Panel(3, Knobs(4, 7))
    with pytest.raises(argparse.ArgumentTypeError, match=r"Knobs needs the keys \['left'\]"):
        parse('{"size": 3, "knobs": {"right": 4}}')
    with pytest.raises(argparse.ArgumentTypeError, match=r"Knobs: expected an object of JSON, \{\.\.\.\}, found 5"):
        parse('{"size": 3, "knobs": 5}')


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
