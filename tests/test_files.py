"""Files and folders appear whole or not at all; JSON and hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap.errors import InputError
from segswap.files import (
    claim,
    content_key,
    read_json,
    read_json_object,
    sha256,
    whole_file,
    whole_folder,
    write_bytes,
    write_json,
    write_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file_appears_only_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "content"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_whole_file_leaves_the_old_file_and_no_rubbish_on_an_error(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_whole_file_that_was_never_written_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


def test_disk_that_fills_at_the_last_moment_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_whole_folder_takes_the_place_of_the_old_one(tmp_path):
    folder = tmp_path / "folder"
    for content in ("one", "two"):
        with whole_folder(folder) as temporary:
            (temporary / f"{content}.txt").write_text(content)
    assert names(folder) == ["two.txt"]
    assert names(tmp_path) == ["folder"]


def test_whole_folder_keeps_the_old_one_on_an_error(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with pytest.raises(RuntimeError), whole_folder(folder) as temporary:
        (temporary / "new.txt").write_text("half")
        raise RuntimeError
    assert names(folder) == ["old.txt"]
    assert names(tmp_path) == ["folder"]


def left_by(path: Path, host: str, process: int) -> Path:
    """Return a temporary file of a path as a process of a machine would have left it."""
    temporary = path.with_name(f".{path.name}.{host}-{process}.tmp")
    temporary.write_bytes(b"half")
    return temporary


@pytest.fixture
def ended() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("write", [write_bytes, None], ids=["file", "folder"])
def test_what_killed_processes_left_is_removed_by_the_next_one(tmp_path, ended, write):
    path, here = tmp_path / "a.b", socket.gethostname()
    left_by(path, here, ended)
    other = left_by(path, "elsewhere", ended)
    forgotten = left_by(path, "elsewhere", 1)
    os.utime(forgotten, (0, 0))
    running = left_by(path, here, os.getppid())
    foreign = left_by(tmp_path / "a", here, ended)
    if write:
        write(path, b"new")
    else:
        with whole_folder(path):
            pass
    assert names(tmp_path) == sorted(["a.b", other.name, running.name, foreign.name])


@pytest.mark.parametrize("write", [write_bytes, None], ids=["file", "folder"])
def test_a_program_whose_snakemake_has_ended_puts_nothing_in_place(tmp_path, monkeypatch, write):
    monkeypatch.setattr("segswap.starter._STARTER", 0)  # nobody's ancestor
    with pytest.raises(InputError, match=r"the Snakemake that started this program has ended.*Start snakemake again"):
        if write:
            write(tmp_path / "a", b"new")
        else:
            with whole_folder(tmp_path / "a"):
                pass
    assert names(tmp_path) == []
    write_bytes(tmp_path / "state", b"new", orphan=True)
    monkeypatch.setattr("segswap.starter._STARTER", os.getppid())
    write_bytes(tmp_path / "b", b"new")
    assert names(tmp_path) == ["b", "state"]


def test_only_one_process_holds_a_claim_and_its_end_frees_it(tmp_path):
    path = tmp_path / "lock"
    program = (
        "import sys; from pathlib import Path; from segswap.files import claim; "
        "held = claim(Path(sys.argv[1]), 'the work'); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=rf"the work: process {holder.pid} on .* is still at work.*nothing is lost"):
        claim(path, "the work")
    holder.kill()
    holder.wait()
    with claim(path, "the work"):
        assert path.read_text().startswith(f"process {os.getpid()} on ")


def test_without_locks_work_goes_on_and_says_so(tmp_path, monkeypatch, capsys):
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", none)
    claim(tmp_path / "lock", "the work").close()
    assert "has no locks" in capsys.readouterr().out


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "a.txt", "Brügel, 花")
    assert (tmp_path / "a.txt").read_bytes().decode("utf-8") == "Brügel, 花"


def test_equal_values_give_equal_json_bytes_whatever_the_order_of_keys(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [2, {"d": 3, "c": 4}]})
    write_json(tmp_path / "b.json", {"a": [2, {"c": 4, "d": 3}], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@given(value=JSON)
def test_json_survives_writing_and_reading(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


@pytest.mark.parametrize("content", [None, b"{", b"", b"\xff\xfe"])
def test_missing_or_broken_json_is_an_error_that_names_the_file(tmp_path, content):
    path = tmp_path / "broken.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.json"):
        read_json(path)


def test_sha256_is_that_of_the_content(tmp_path):
    data = bytes(range(256)) * 1000
    write_bytes(tmp_path / "a", data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_content_key_depends_on_the_value_alone():
    assert content_key({"a": 1, "b": [1, 2]}) == content_key({"b": [1, 2], "a": 1})
    values = [{"a": 1}, {"a": 2}, {"b": 1}, ["a", 1], [1, 2], [2, 1], [[1], 2], "a", 1, None]
    assert len({content_key(value) for value in values}) == len(values)
    # Frozen: training states and caches on disk are found by this key.
    assert content_key({"size": 480}) == hashlib.sha256(b'{"size": 480}').hexdigest()[:16]


def test_a_folder_in_place_of_a_json_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\); expected a JSON file"):
        read_json(tmp_path)


@given(value=JSON)
def test_a_json_object_is_one_or_what_it_is_instead_is_said(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    if isinstance(value, dict):
        assert read_json_object(path) == value
    else:
        with pytest.raises(InputError, match=f"holds a {type(value).__name__}; expected an object"):
            read_json_object(path)
