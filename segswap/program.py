"""How a command-line program runs: its help, settings, clear errors, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import io
import json
import os
import select
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from segswap.errors import InputError
from segswap.threads import limit_threads

T = TypeVar("T")
DONE, INPUT_ERROR, USAGE_ERROR = 0, 1, 2
INTERRUPTED = 75
"""Exit code (``EX_TEMPFAIL``) of a job that stopped in good order and can go on when started again."""
STOPPED = 128 + signal.SIGINT
READER_LEFT = 128 + signal.SIGPIPE

EXIT_CODES = {
    DONE: "done",
    INPUT_ERROR: "an input is missing or wrong; one line on standard error names it and the remedy",
    USAGE_ERROR: "a flag is missing, unknown, or has a value that it cannot have",
    INTERRUPTED: "stopped in good order, state saved; started again it goes on",
    STOPPED: "stopped by Ctrl-C",
    READER_LEFT: "what read the output has ended, as head does",
}
"""What the status of a program says; any other, and a traceback, is a bug."""


CLOCKS_AGREE = 60.0
"""Seconds by which the clocks of machines may differ; a job that takes as long does not notice."""


class Interrupted(Exception):
    """Raised by long work that was asked to stop and has saved its state."""


class HelpFormatter(argparse.HelpFormatter):
    """Shows a docstring: paragraphs filled to the width of the terminal, indented lines as they are, no markup."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.replace("``", "").strip().split("\n\n")
        return "\n\n".join(
            paragraph if "\n " in paragraph else fill(paragraph, width, indent) for paragraph in paragraphs
        )


def argument_parser(doc: str) -> argparse.ArgumentParser:
    """Return the parser of a program, whose help is the docstring of its module.

    Args:
        doc: says what the program does; its last part is ``Example:`` with a command line in the lines below.
    """
    description, heading, example = doc.partition("\nExample:\n")
    return argparse.ArgumentParser(description=description, epilog=heading + example, formatter_class=HelpFormatter)


def examples_epilog(examples: str) -> str:
    """Return the end of a command's help: its examples, a command line each."""
    return "Examples:\n" + textwrap.indent(textwrap.dedent(examples).strip("\n"), "    ")


def exit_codes_epilog() -> str:
    """Return the part of the help that says what the status of a program means."""
    return "Exit codes:\n" + "\n".join(f"    {code:3d}  {meaning}" for code, meaning in EXIT_CODES.items())


def json_object(text: str) -> dict[str, Any]:
    """Parse a command-line value as an object of JSON, for ``argparse``'s ``type``."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): {text!r}") from None
    if not isinstance(values, dict):
        raise argparse.ArgumentTypeError(f"expected an object of JSON, {{...}}, found {text!r}")
    return values


def whole_number(minimum: int, multiple_of: int = 1) -> Callable[[str], int]:
    """Return a parser of whole numbers of at least ``minimum``, for ``argparse``'s ``type``."""
    expected = f"a whole number, {minimum} or more" + (f", a multiple of {multiple_of}" if multiple_of > 1 else "")

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum or number % multiple_of:
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
        return number

    return parse


def settings(kind: type[T]) -> Callable[[str], T]:
    """Return a parser of a settings dataclass from a JSON object, for ``argparse``'s ``type``.

    Fields with a default may be absent. A field whose default is such a dataclass takes an object, too.
    """
    return lambda text: _filled(kind, json_object(text))


def _filled(kind: type[T], values: Any) -> T:
    """Return a settings dataclass with the values of a JSON object."""
    if not isinstance(values, dict):
        raise argparse.ArgumentTypeError(f"{kind.__name__}: expected an object of JSON, {{...}}, found {values!r}")
    fields = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    needed = {name for name, default in fields.items() if default is dataclasses.MISSING}
    if not needed <= set(values) <= set(fields):
        others = sorted(set(fields) - needed)
        may = f", and may have {others}" if others else ""
        found = f"{sorted(needed)}{may}; found {sorted(values)}"
        raise argparse.ArgumentTypeError(f"{kind.__name__} needs the keys {found}")
    inner = {name: type(fields[name]) for name in values if dataclasses.is_dataclass(fields[name])}
    return kind(**{name: _filled(inner[name], value) if name in inner else value for name, value in values.items()})


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


def _is_given(path: str, arguments: Iterable[str]) -> bool:
    """Return whether a path is one of the arguments, lies below one, or is a folder that one lies in."""
    named = Path(path)
    return any(
        Path(argument).is_relative_to(named) or named.is_relative_to(argument)
        for argument in arguments
        if argument and not argument.startswith("-")
    )


_WRONG_PATHS = {
    FileNotFoundError: "no such file or folder; check the name, or make it first",
    IsADirectoryError: "is a folder; expected a file",
    NotADirectoryError: "is a file, or lies below one; expected a folder",
    FileExistsError: "is a file; expected a folder, or nothing",
}


def _in_words(error: OSError) -> str | None:
    """Return what a user can do about a system's error; None where it may be a bug."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error}); make room and start again: nothing half written was left"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"this user may not do so ({error}); inputs must be readable and the folders of outputs writable. Change "
            "that and start again: nothing half written was left"
        )
    # A path that the user has given, with others below and above it. A bug would look for one of its own making.
    for path in (error.filename2, error.filename):
        if type(error) in _WRONG_PATHS and isinstance(path, str | os.PathLike) and _is_given(path, sys.argv[1:]):
            return f"{path}: {_WRONG_PATHS[type(error)]}"
    return None


def _reader_has_left() -> bool:
    """Return whether nobody reads the program's output any more; what it still had to say is then given up."""
    left = False
    for stream in (sys.stdout, sys.stderr):
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # an error is told also where it is not asked for
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            left = True
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
    return left


def run(main: Callable[[], None], check_times: bool = True) -> NoReturn:
    """Run a program and leave with one of ``EXIT_CODES``: what a user can put right becomes one line and status 1.

    That is ``InputError``, a full disk, a folder that may not be written, and a path among the arguments that is
    missing, or a folder in place of a file. A bug keeps its traceback.

    Args:
        main: the program.
        check_times: whether it is a job of the workflow, whose inputs must not come from the future.
    """
    limit_threads()
    # Names of files may be no UTF-8 (``segswap.names``); standard error escapes them without being asked.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if check_times:
            refuse_the_future(sys.argv[1:])
        try:
            main()
        finally:
            sys.stdout.flush()
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            sys.exit(READER_LEFT)
        words = _in_words(error)
        if words is None:
            raise
        sys.exit(f"error: {words}")
    except KeyboardInterrupt:
        print("interrupted: by Ctrl-C; nothing half written was left", file=sys.stderr)
        sys.exit(STOPPED)
    except Interrupted as reason:
        print(f"interrupted: {reason}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(DONE)
