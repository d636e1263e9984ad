"""Archives unpacked safely: nothing is written outside their folder, damage is named, the folder appears whole."""

from __future__ import annotations

import bz2
import contextlib
import fnmatch
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from segswap import files
from segswap.errors import InputError
from segswap.progress import byte_progress

LARGEST = 1 << 30, 100
"""Bytes that any archive may become, and how many times its own size; a larger one is a bomb."""

_BLOCK = 4096
"""Bytes that each entry takes on the disk at least."""

_LARGEST_HEADER = 1 << 20
"""Bytes that a tar may say about one member: names and comments."""

_LARGEST_TARGET = 4096
"""Bytes of a link's target: no system knows longer paths."""

Steps = tuple[str, ...]


class _Member(NamedTuple):
    """One entry of an archive.

    ``kind`` is file, folder, link, hard link, sparse (file) or other; ``size`` is that of a file in bytes, ``target``
    that of a link.
    """

    name: str
    kind: str
    size: int
    target: str
    open: Callable[[], IO[bytes]]


_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    IndexError,  # zipfile, of a member without a name
    OverflowError,
    struct.error,
    RecursionError,  # tarfile, of headers that follow on headers
)


def unpack(
    archive: str | os.PathLike,
    folder: str | os.PathLike,
    members_prefix: str | None = None,
    holds: Sequence[str] = (),
) -> None:
    """Unpack a zip or a tar (plain, gzip, bzip2 or xz) into ``folder``, which appears whole and replaces an old one.

    With ``members_prefix``, a folder of the archive, only what lies in it is taken, under its name from there on:
    ``train/a.jpg`` becomes ``a.jpg`` for the prefix ``train``. With ``holds`` that folder is found by its content.
    Owners, permissions and times are not taken over. Symbolic links are made as long as they stay in the folder; hard
    links become copies. Memory does not grow with the archive's files.

    Args:
        archive: the file.
        folder: to be made.
        members_prefix: folder of the archive.
        holds: in place of a prefix, patterns of paths from the folder on, as ``Car100/*.jpg``; case does not matter.
            The folder that holds files of every pattern is taken, of several the one that holds most of them, of
            equal ones the one nearest to the top.

    Raises:
        InputError: when the archive is missing, damaged, cut off, encrypted or in an unknown format; when a member
            has an absolute name, one with ``..``, is a link that leaves the folder, a device or a pipe, or clashes
            with another; when the files would be larger than ``LARGEST``; when nothing is there to unpack, or no folder
            holds the patterns; when the disk cannot be written. Then ``folder`` is as it was.
    """
    archive = Path(archive)
    if not archive.is_file():
        raise InputError(f"{archive}: no such file; expected an archive (zip or tar)")
    again = "delete the archive and download it again"
    try:
        with files.whole_folder(folder) as root:
            prefix = _folder_that_holds(holds, archive) if holds else _steps(members_prefix or ".", archive)
            with _opened(archive) as members:
                found = _extract(members, root, prefix, archive)
            if not found:
                where = f"below {members_prefix!r}" if prefix else "in it"
                raise InputError(f"{archive}: nothing {where} to unpack; check the prefix and the archive")
    except MemoryError:
        raise InputError(f"{archive}: takes more memory than there is; unpack it to {folder} by hand") from None
    except NotImplementedError as error:
        raise InputError(f"{archive}: packed in a way unknown here ({error}); unpack it to {folder} by hand") from None
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{archive}: damaged, cut off, or neither zip nor tar ({reason}); {again}") from None
    except OSError as error:
        if error.errno is None:  # how gzip and bzip2 report wrong data
            raise InputError(f"{archive}: damaged ({error}); {again}") from None
        raise InputError(f"{archive}: cannot be unpacked to {folder} ({error}); put that right, run again") from None


def _most_bytes(archive: Path) -> int:
    """Return how many bytes an archive may become."""
    fixed, times = LARGEST
    return max(fixed, times * archive.stat().st_size)


def _bomb(archive: Path) -> InputError:
    return InputError(
        f"{archive}: {archive.stat().st_size:,} bytes that become more than {_most_bytes(archive):,}, as those of an "
        "archive do that is to fill the disk; do not trust this archive, or unpack it by hand"
    )


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Member]]:
    """Yield the entries of an archive, showing how far it has been read."""
    with open(archive, "rb") as raw:
        start = raw.read(6)
        raw.seek(0)
        is_zip = re.match(rb"PK[\3\5\7]", start)
        members = _zip_members(raw, archive) if is_zip else _tar_members(raw, start, archive)
        with contextlib.closing(_shown(members, raw, archive)) as shown:
            yield shown


def _folder_that_holds(patterns: Sequence[str], archive: Path) -> Steps:
    """Return the folder of an archive that holds files of every pattern, and most of them."""
    held: dict[Steps, Counter[str]] = {}
    tops = set()
    with _opened(archive) as members:
        for member in members:
            steps = _steps(member.name, archive)
            tops.update(steps[:1])
            # Systems keep notes of pictures in files of like names: __MACOSX/photos/._a.jpg.
            if member.kind != "file" or steps[-1].startswith(".") or steps[0] == "__MACOSX":
                continue
            for pattern in patterns:
                depth = len(steps) - len(_split(pattern))
                if depth >= 0 and fnmatch.fnmatchcase("/".join(steps[depth:]).casefold(), pattern.casefold()):
                    held.setdefault(steps[:depth], Counter())[pattern] += 1
    whole = {folder: counts.total() for folder, counts in held.items() if len(counts) == len(set(patterns))}
    if not whole:
        raise InputError(
            f"{archive}: no folder in it holds {' and '.join(patterns)}; found at the top: "
            f"{_listed(sorted(tops))}. Name the folder of the archive, or check whether it is the right archive"
        )
    ranks = {folder: (count, -len(folder)) for folder, count in whole.items()}
    most = [folder for folder, rank in ranks.items() if rank == max(ranks.values())]
    if len(most) > 1:
        raise InputError(
            f"{archive}: {_listed(sorted('/'.join(folder) for folder in most))} hold as many files of "
            f"{' and '.join(patterns)} each; name the folder of the archive"
        )
    return most[0]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:6])) or "nothing"
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _shown(members: Generator[_Member, None, None], raw: IO[bytes], archive: Path) -> Generator[_Member]:
    """Pass the members on, showing how far the archive has been read."""
    total = os.fstat(raw.fileno()).st_size
    with byte_progress(archive.name, total) as bar, contextlib.closing(members):
        for member in members:
            yield member
            bar.update(max(0, min(raw.tell(), total) - bar.n))
        bar.update(total - bar.n)


def _zip_members(raw: IO[bytes], archive: Path) -> Generator[_Member, None, None]:
    """Entries of a zip in the order of its directory."""
    kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    with zipfile.ZipFile(raw) as packed:
        for info in packed.infolist():
            if info.flag_bits & 1:
                raise InputError(f"{archive}: member {info.filename!r} is encrypted; unpack the archive by hand")
            kind = "folder" if info.is_dir() else kinds.get(stat.S_IFMT(info.external_attr >> 16), "other")
            target = ""
            if kind == "link":
                if info.file_size > _LARGEST_TARGET:
                    raise zipfile.BadZipFile(f"the target of the link {info.filename!r} has {info.file_size} bytes")
                target = os.fsdecode(packed.read(info))
            # No more than the stated size is ever read of a member.
            yield _Member(info.filename, kind, info.file_size, target, partial(packed.open, info))


class _Headers(io.BufferedReader):
    """What a tar's headers are read from: tarfile reads as many bytes as a header says, and keeps them in memory."""

    left = sys.maxsize

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes; ``ReadError`` beyond what is ``left``."""
        if size is None or size < 0 or size > self.left:
            raise tarfile.ReadError("a header larger than any")
        self.left -= size
        return super().read(size)


def _tar_members(raw: IO[bytes], start: bytes, archive: Path) -> Generator[_Member, None, None]:
    """Entries of a tar in their order; ``start`` is its first bytes. A missing end is an error, unlike in tarfile."""
    openers = {rb"\x1f\x8b": gzip.open, rb"BZh[1-9]1A": bz2.open, rb"\xfd7zXZ": lzma.open}
    unpacked = next((opener(raw) for magic, opener in openers.items() if re.match(magic, start)), raw)
    most = _most_bytes(archive)
    # A buffer of its own, so that stepping one block back below does not unpack everything anew.
    with _Headers(unpacked, 1 << 20) as stream:
        stream.left = _LARGEST_HEADER
        with tarfile.open(fileobj=stream, mode="r:") as packed:
            while info := packed.next():
                if packed.offset > most:
                    raise _bomb(archive)
                stream.left = sys.maxsize
                yield _Member(info.name, _tar_kind(info), info.size, info.linkname, partial(packed.extractfile, info))
                # tarfile would keep all entries, of any number of empty files.
                packed.members.clear()
                stream.left = _LARGEST_HEADER
            # tarfile takes a broken header, or the end of the file between two members, for the end of the archive.
            stream.seek(packed.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end mark at byte {packed.offset}")
        stream.left = most
        while stream.read(1 << 20):  # to the end: there the compression's own check sum is compared
            pass


def _tar_kind(info: tarfile.TarInfo) -> str:
    """Kind of a tar entry."""
    kinds = {
        "sparse": info.issparse(),
        "file": info.isfile(),
        "folder": info.isdir(),
        "link": info.issym(),
        "hard link": info.islnk(),
    }
    return next((kind for kind, applies in kinds.items() if applies), "other")


def _steps(name: str, archive: Path) -> Steps:
    """Split a member's name into its steps; InputError for one that could lead out of the folder."""
    # Backslashes count as separators in archives from Windows: such a name is refused, never interpreted.
    steps = name.replace("\\", "/").split("/")
    if not name or "\0" in name or name.startswith(("/", "\\")) or re.match("[A-Za-z]:[/\\\\]", name) or ".." in steps:
        raise InputError(
            f"{archive}: member {name!r} would be written outside the folder; do not trust this archive, get it "
            "from another source"
        )
    return _split(name)


def _split(name: str) -> Steps:
    """Split a name at its slashes, without empty steps and those that stay in place."""
    return tuple(step for step in name.split("/") if step not in ("", "."))


def _stays(steps: Steps, target: str) -> bool:
    """Whether a symbolic link at ``steps`` leads to a place in the folder, whatever other links there are.

    ``..`` may only stand at the start, where it climbs real folders; after the name of another link it could
    climb from anywhere.
    """
    way = _split(target)
    climbs = next((index for index, step in enumerate(way) if step != ".."), len(way))
    clean = target and not target.startswith("/") and "\0" not in target
    return bool(clean) and climbs < len(steps) and ".." not in way[climbs:]


def _extract(members: Iterator[_Member], root: Path, prefix: Steps, archive: Path) -> int:
    """Write the members below ``prefix`` to the empty folder ``root`` and return how many files and links there were.

    Symbolic links are made last, when no folder or file is still to come that could be written through one.
    """
    count, left = 0, _most_bytes(archive)
    links: dict[Path, str] = {}
    for member in members:
        steps = _steps(member.name, archive)
        inner = steps[len(prefix) :]
        if steps[: len(prefix)] != prefix or not inner:
            continue
        place = root.joinpath(*inner)
        source = _hard_linked(member, root, prefix)
        left -= max(_BLOCK, source.stat().st_size if source else member.size)
        if left < 0:
            raise _bomb(archive)
        with _clashes(member.name, archive):
            if member.kind == "folder":
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.kind == "file":
                with member.open() as packed, open(place, "wb") as copy:
                    shutil.copyfileobj(packed, copy, 1 << 20)
            elif source:
                shutil.copyfile(source, place)
            elif member.kind == "link" and _stays(inner, member.target):
                links[place] = member.target
            else:
                raise InputError(
                    f"{archive}: member {member.name!r} is {_KINDS.get(member.kind, f'a link to {member.target!r}')}, "
                    "expected files, folders and links within the folder; do not trust this archive, get it from "
                    "another source"
                )
        count += 1
    for place, target in links.items():
        with _clashes(place.relative_to(root).as_posix(), archive):
            os.symlink(target, place)
    return count


_KINDS = {"other": "a device or pipe", "sparse": "a sparse file, of which few bytes stand for any number of zeros"}
"""Entries that are never unpacked, in words."""


def _hard_linked(member: _Member, root: Path, prefix: Steps) -> Path | None:
    """Return the file that a hard link leads to, among those that are written already; None for all else."""
    way = _split(member.target)
    if member.kind != "hard link" or way[: len(prefix)] != prefix or ".." in way:
        return None
    place = root.joinpath(*way[len(prefix) :])
    return place if place.is_file() else None


@contextlib.contextmanager
def _clashes(name: str, archive: Path) -> Iterator[None]:
    """Name the member when another one stands in its place."""
    try:
        yield
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise InputError(
            f"{archive}: member {name!r} has the name of another member of another kind; unpack the archive by hand"
        ) from None
