"""Archives unpacked safely: nothing is written outside their folder, damage is named, the folder appears whole."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from segswap import files
from segswap.errors import InputError
from segswap.progress import byte_progress

_CHUNK = 1 << 16

Steps = tuple[str, ...]


class _Member(NamedTuple):
    """One entry of an archive; ``kind`` is file, folder, link, hard link or other, ``target`` that of a link."""

    name: str
    kind: str
    target: str
    open: Callable[[], IO[bytes]]


_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError)


def unpack(archive: str | os.PathLike, folder: str | os.PathLike, members_prefix: str | None = None) -> None:
    """Unpack a zip or a tar (plain, gzip, bzip2 or xz) into ``folder``, which appears whole and replaces an old one.

    With ``members_prefix``, a folder of the archive, only what lies in it is taken, under its name from there on:
    ``train/a.jpg`` becomes ``a.jpg`` for the prefix ``train``. Owners, permissions and times are not taken over.
    Symbolic links are made as long as they stay in the folder; hard links become copies.

    Raises:
        InputError: when the archive is missing, damaged, cut off, encrypted or in an unknown format; when a member
            has an absolute name, one with ``..``, is a link that leaves the folder, a device or a pipe, or clashes
            with another; when nothing is there to unpack; when the disk cannot be written. Then ``folder`` is as
            it was.
    """
    archive = Path(archive)
    if not archive.is_file():
        raise InputError(f"{archive}: no such file; expected an archive (zip or tar)")
    prefix = _steps(members_prefix or ".", archive)
    again = "delete the archive and download it again"
    try:
        with open(archive, "rb") as raw, files.whole_folder(folder) as root:
            start = raw.read(6)
            raw.seek(0)
            members = _zip_members(raw, archive) if re.match(rb"PK[\3\5\7]", start) else _tar_members(raw, start)
            with contextlib.closing(_shown(members, raw, archive)) as shown:
                found = _extract(shown, root, prefix, archive)
            if not found:
                where = f"below {members_prefix!r}" if prefix else "in it"
                raise InputError(f"{archive}: nothing {where} to unpack; check the prefix and the archive")
    except NotImplementedError as error:
        raise InputError(f"{archive}: packed in a way unknown here ({error}); unpack it to {folder} by hand") from None
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{archive}: damaged, cut off, or neither zip nor tar ({reason}); {again}") from None
    except OSError as error:
        if error.errno is None:  # how gzip and bzip2 report wrong data
            raise InputError(f"{archive}: damaged ({error}); {again}") from None
        raise InputError(f"{archive}: cannot be unpacked to {folder} ({error}); put that right, run again") from None


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
            target = os.fsdecode(packed.read(info)) if kind == "link" else ""
            yield _Member(info.filename, kind, target, partial(packed.open, info))


def _tar_members(raw: IO[bytes], start: bytes) -> Generator[_Member, None, None]:
    """Entries of a tar in their order; ``start`` is its first bytes. A missing end is an error, unlike in tarfile."""
    openers = {rb"\x1f\x8b": gzip.open, rb"BZh[1-9]1A": bz2.open, rb"\xfd7zXZ": lzma.open}
    unpacked = next((opener(raw) for magic, opener in openers.items() if re.match(magic, start)), raw)
    # A buffer of its own, so that stepping one block back below does not unpack everything anew.
    with io.BufferedReader(unpacked, 1 << 20) as stream:
        with tarfile.open(fileobj=stream, mode="r:") as packed:
            for info in packed:
                yield _Member(info.name, _tar_kind(info), info.linkname, partial(packed.extractfile, info))
            # tarfile takes a broken header, or the end of the file between two members, for the end of the archive.
            stream.seek(packed.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end mark at byte {packed.offset}")
        while stream.read(1 << 20):  # to the end: there the compression's own check sum is compared
            pass


def _tar_kind(info: tarfile.TarInfo) -> str:
    """Kind of a tar entry."""
    kinds = {"file": info.isfile(), "folder": info.isdir(), "link": info.issym(), "hard link": info.islnk()}
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


def _extract(members: Generator[_Member, None, None], root: Path, prefix: Steps, archive: Path) -> int:
    """Write the members below ``prefix`` to the empty folder ``root`` and return how many files and links there were.

    Symbolic links are made last, when no folder or file is still to come that could be written through one.
    """
    written: dict[Steps, Path] = {}
    links: dict[Path, str] = {}
    for member in members:
        steps = _steps(member.name, archive)
        inner = steps[len(prefix) :]
        if steps[: len(prefix)] != prefix or not inner:
            continue
        place = root.joinpath(*inner)
        with _clashes(member.name, archive):
            if member.kind == "folder":
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.kind == "file":
                with member.open() as source, open(place, "wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                written[steps] = place
            elif member.kind == "hard link" and (source := written.get(_split(member.target))) is not None:
                shutil.copyfile(source, place)
                written[steps] = place
            elif member.kind == "link" and _stays(inner, member.target):
                links[place] = member.target
            else:
                what = "a device or pipe" if member.kind == "other" else f"a {member.kind} to {member.target!r}"
                raise InputError(
                    f"{archive}: member {member.name!r} is {what}, expected files, folders and links within the "
                    "folder; do not trust this archive, get it from another source"
                )
    for place, target in links.items():
        with _clashes(place.relative_to(root).as_posix(), archive):
            os.symlink(target, place)
    return len(written) + len(links)


@contextlib.contextmanager
def _clashes(name: str, archive: Path) -> Iterator[None]:
    """Name the member when another one stands in its place."""
    try:
        yield
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise InputError(
            f"{archive}: member {name!r} has the name of another member of another kind; unpack the archive by hand"
        ) from None
