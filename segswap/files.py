"""How files appear: whole or not at all.

A killed job must never leave half a file under its final name, and a rerun must be able to tell finished
from unfinished. So everything is written under a temporary name in the same folder and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from segswap.errors import InputError
from segswap.starter import is_orphan

NOT_ARRAYS = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, MemoryError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What ``numpy.load`` and the files that it opens raise where a file is missing, damaged, or holds something else."""


_FORGOTTEN_SECONDS = 24 * 3600.0
"""A temporary file of another machine that nobody has written to for so long is rubbish."""


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is another user's
    return True


def _temporary(path: Path) -> Path:
    """Return this process's temporary name beside ``path``; remove what killed ones have left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    host, start = socket.gethostname(), f".{path.name}."
    for left in path.parent.glob(f"{glob.escape(start)}*.tmp"):
        found_host, _, process = left.name.removeprefix(start).removesuffix(".tmp").rpartition("-")
        with contextlib.suppress(FileNotFoundError):
            here = found_host == host and process.isdigit()
            if not _is_running(int(process)) if here else time.time() - left.stat().st_mtime > _FORGOTTEN_SECONDS:
                remove(left)
    return path.with_name(f"{start}{host}-{os.getpid()}.tmp")


def remove(path: Path) -> None:
    """Delete a file or a folder; nothing when there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def make_folder(folder: Path, flag: str) -> None:
    """Make a folder where it is absent.

    Args:
        flag: by which another one can be chosen, for the message.

    Raises:
        InputError: when it cannot be one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder ({error.strerror}); choose another {flag}") from None


def claim(path: Path, what: str) -> IO[str]:
    """Make sure that no other process, on this machine or another, works on the same thing; hold it until closed.

    A Snakemake that is killed alone leaves its jobs running; the jobs of the next one must not write to the same
    unfinished files. A process that ends, however it does, holds nothing any more.

    Args:
        path: file that stands for the thing; made where it is absent. It names the process that holds it.
        what: is worked on, for the message.

    Raises:
        InputError: when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+")  # noqa: SIM115 - it stays open while the thing is held
    try:
        # Unlike flock's, these locks are not inherited by processes that read batches, and they work over NFS.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise InputError(
                f"{what}: {holder} is still at work on it, left over from an earlier run. Let it come to its end, or "
                "stop it, then start again: nothing is lost"
            ) from None
        print(f"{path}: this file system has no locks ({error}); never start this job twice at once", flush=True)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def refuse_orphans() -> None:
    """Raise an ``InputError`` where the Snakemake that started this program has ended (``segswap.starter``)."""
    if is_orphan():
        raise InputError(
            "the Snakemake that started this program has ended; what was made is not put in place, as the next run "
            "would not know of it. Start snakemake again"
        )


@contextlib.contextmanager
def whole_file(path: str | os.PathLike, orphan: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block ends without an error.

    The folder is made if needed. On an error (a full disk, a signal turned into an exception) the
    temporary file is removed and ``path`` is left as it was; that of a killed process is removed by the next one.

    Args:
        path: of the file.
        orphan: put it in place also where the Snakemake that started this program has ended: what no rule declares.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        if not orphan:
            refuse_orphans()
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it takes the place of ``path`` when the block ends.

    An existing folder of that name is removed only once the new one is complete.
    """
    path = Path(path)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        refuse_orphans()
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_bytes(path: str | os.PathLike, data: bytes, orphan: bool = False) -> None:
    """Write ``data`` as a whole file; ``orphan`` as for ``whole_file``."""
    with whole_file(path, orphan) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike, text: str, orphan: bool = False) -> None:
    """Write UTF-8 text as a whole file; ``orphan`` as for ``whole_file``.

    Names of files that are not UTF-8 are written as ``segswap.names`` says.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"), orphan)


def write_json(path: str | os.PathLike, value: Any, orphan: bool = False) -> None:
    """Write ``value`` as indented JSON with sorted keys, so equal values give equal bytes; ``orphan`` as for
    ``whole_file``."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_text(path, text, orphan)  # Python's escape of names that are not UTF-8 is JSON's own


def write_arrays(path: str | os.PathLike, compressed: bool = True, **arrays: np.ndarray) -> None:
    """Write named arrays as a whole npz file."""
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)


def read_arrays(path: str | os.PathLike, what: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the named arrays of an npz file.

    Args:
        what: the file is, for the message.

    Raises:
        InputError: when the file is missing, damaged, or lacks an array.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except NOT_ARRAYS as error:
        raise InputError(f"{path}: not readable as {what} ({error}); delete it and run again") from None


def read_array(path: str | os.PathLike) -> np.ndarray:
    """Return the array of a numpy file as it lies on the disk: what is not looked at takes no memory.

    Raises:
        InputError: when the file is missing, damaged, holds several arrays, or objects of Python, which execute code.
    """
    try:
        # A header may promise any size; mapped, no more is promised than the file holds.
        array = np.load(Path(path), mmap_mode="r", allow_pickle=False)
    except NOT_ARRAYS as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: not readable as a plain numpy array ({words}); save one with numpy.save, of numbers or text, not "
            "of objects"
        ) from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path}: an archive of arrays (.npz); expected a single array, .npy")
    return array


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        InputError: when the file is missing, cannot be read, or is not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a JSON file") from None
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a JSON file") from None
    except (ValueError, RecursionError) as error:  # no JSON or UTF-8, or numbers or lists beyond any sense
        raise InputError(f"{path}: not readable as JSON ({error}); restore or remake the file") from None


def read_json_object(path: str | os.PathLike) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: as of ``read_json``, and when the file holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; expected an object of JSON, {{...}}")
    return content


def sha256(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_key(value: Any) -> str:
    """Return a 16-digit key of a JSON value: equal values, and only they, have equal keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_FILE_SUFFIXES = (".pt", ".pth", ".tar", ".safetensors", ".onnx", ".npy", ".json", ".csv", ".jpg", ".png")


def is_repository(source: str | os.PathLike) -> bool:
    """Return whether something that is not there can be meant as a repository of the hub, ``owner/model``.

    A mistyped path must not become a question to the network: what looks like a file, or begins with a folder that
    exists here, is a path.
    """
    text = os.fspath(source)
    return bool(_REPOSITORY.fullmatch(text) and not text.endswith(_FILE_SUFFIXES) and not Path(text).parent.is_dir())
