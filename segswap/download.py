"""Files from the network: downloads that continue after any interruption and are checked, archives unpacked safely.

What has arrived of ``photos.zip`` lies beside it in ``.photos.zip.part``, which survives a killed job; a small
``.photos.zip.part.json`` says which version of which remote file it is a part of. ``photos.zip`` itself appears
only when it is complete and checked.
"""

from __future__ import annotations

import bz2
import contextlib
import email.utils
import errno
import fcntl
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import requests
import urllib3
from tqdm import tqdm

from segswap import __version__, files
from segswap.errors import InputError
from segswap.progress import LOG_SECONDS

_CHUNK = 1 << 16

Steps = tuple[str, ...]


class _Patience(NamedTuple):
    """How long a download is kept up: arguments of ``download``, explained there; seconds."""

    retries: int = 5
    wait: float = 2.0
    longest_wait: float = 300.0
    timeout: float = 60.0


class _TryAgain(Exception):
    """A failure that may pass; ``retry_after`` is the server's header, if it sent one."""

    def __init__(self, reason: str, retry_after: str | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _Wrong(Exception):
    """What arrives is another file than the expected one; the text says how."""


_REMEDY = "what was received is removed; check the URL and the expected value, then download again"


def download(
    url: str,
    path: str | os.PathLike,
    sha256: str | None = None,
    size: int | None = None,
    retries: int = 5,
    wait: float = 2.0,
    longest_wait: float = 300.0,
    timeout: float = 60.0,
) -> None:
    """Download ``url`` to ``path``, continuing what an earlier, broken-off call has left.

    The total size is compared with what the server announces, and with ``size`` (bytes) and ``sha256`` (64
    hexadecimal digits) where given. A file that is there already with that SHA-256 is kept. The rest of a file is
    only fetched if the server can tell that the file is still the same (ETag or Last-Modified), or if ``sha256``
    would show a mixture; otherwise the download starts over.

    Lost connections, time-outs, and the answers 429 and 5xx are retried, at most ``retries`` times in a row
    without progress, after ``wait`` seconds, doubled each time, or after the server's Retry-After, but never more
    than ``longest_wait`` seconds. ``timeout`` is the longest time in seconds without a byte.

    Raises:
        InputError: when the server refuses, when retries do not help (what has arrived is kept), when the size or
            the SHA-256 is another one (what has arrived is removed), when another process downloads the same file,
            or when the disk cannot be written.
    """
    with _checked(url, Path(path), sha256, size, _REMEDY, _Patience(retries, wait, longest_wait, timeout)):
        pass


def fetch(
    url: str,
    path: str | os.PathLike,
    record: str | os.PathLike,
    sha256: str | None = None,
    size: int | None = None,
    **patience: Any,
) -> None:
    """Download as ``download`` does, and hold every later download of ``url`` to what the first one brought.

    ``record`` is a JSON file of this one URL, with the keys ``url``, ``sha256`` and ``size`` (bytes). One file per
    URL, written whole, needs no lock between jobs; it must not be a declared output of a rule, since Snakemake
    deletes those before a rerun. A given ``sha256`` or ``size`` goes before the record: one that contradicts it, or
    is of another URL, is replaced. ``patience`` are the arguments ``retries``, ``wait``, ``longest_wait`` and
    ``timeout`` of ``download``.

    Raises:
        InputError: as ``download``; when the remote file is not the recorded one; when the record is unreadable.
    """
    path, record = Path(path), Path(record)
    remedy = _REMEDY
    known = _read_record(record) if record.exists() else None
    if known is not None and known["url"] == url and sha256 is None and size in (None, known["size"]):
        sha256, size = known["sha256"], known["size"]
        remedy = (
            f"the remote file has changed since its first download, recorded in {record}; if the change is meant, "
            "delete that record and download again"
        )
    with _checked(url, path, sha256, size, remedy, _Patience(**patience)) as complete:
        # Before the file gets its name: a kill between the two leaves a record that the part still has to meet.
        found = {"url": url, "sha256": (sha256 or files.sha256(complete)).lower(), "size": complete.stat().st_size}
        if found != known:
            files.write_json(record, found)


def _read_record(record: Path) -> dict[str, Any]:
    """Read the record of a first download; InputError when it is not one."""
    known = files.read_json(record)
    types = {"url": str, "sha256": str, "size": int}
    if not isinstance(known, dict) or any(not isinstance(known.get(key), kind) for key, kind in types.items()):
        raise InputError(f"{record}: not a record of a download (url, sha256, size); restore or delete the file")
    return known


@contextlib.contextmanager
def _checked(
    url: str,
    path: Path,
    sha256: str | None,
    size: int | None,
    remedy: str,
    patience: _Patience,
) -> Iterator[Path]:
    """Yield the complete and checked file, still under another name; it becomes ``path`` when the block ends."""
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise InputError(f"{url}: the expected SHA-256 must be 64 hexadecimal digits, found {sha256!r}; correct it")
    if sha256 is not None and path.is_file() and _difference(path, sha256, size) is None:
        yield path
        return
    part, side = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.part.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _own(part) as file:
            attempt = partial(_attempt, url, file, side, sha256, size, patience.timeout)
            try:
                _persist(attempt, url, part, patience)
                if (difference := _difference(part, sha256, size)) is not None:
                    raise _Wrong(difference)
            except _Wrong as difference:
                _start_over(file, side)
                raise InputError(f"{url} (to {path}): {difference}; {remedy}") from None
            yield part
            os.fsync(file.fileno())
            os.replace(part, path)
            side.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error}); put that right and run again: the download goes on from there"
        ) from None


@contextlib.contextmanager
def _own(part: Path) -> Iterator[IO[bytes]]:
    """Open a part file for appending, for this process alone; remove it at the end if nothing has arrived."""
    busy = InputError(f"{part}: another process is downloading this file; wait for it or end it, then run again")
    with open(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
            print(f"{part}: this file system has no locks; never run two downloads of one file", file=sys.stderr)
        try:
            # The owner of the lock may have renamed or removed the file between our opening and locking it.
            if not os.path.samestat(os.fstat(file.fileno()), part.stat()):
                raise busy
        except FileNotFoundError:
            raise busy from None
        try:
            yield file
        finally:
            if _length(file) == 0:
                part.unlink(missing_ok=True)


def _length(file: IO[bytes]) -> int:
    """Bytes of an open file on the disk."""
    return os.fstat(file.fileno()).st_size


def _start_over(file: IO[bytes], side: Path) -> None:
    """Empty the part and forget what it was a part of."""
    file.truncate(0)
    side.unlink(missing_ok=True)


def _difference(path: Path, sha256: str | None, size: int | None) -> str | None:
    """Say how a file is not what it should be; None if it is."""
    found_size = path.stat().st_size
    if size is not None and found_size != size:
        return f"expected {size} bytes, found {found_size}"
    if sha256 is not None and (found := files.sha256(path)) != sha256.lower():
        return f"expected SHA-256 {sha256.lower()}, found {found} ({found_size} bytes)"
    return None


def _persist(attempt: Callable[[], None], url: str, part: Path, patience: _Patience) -> None:
    """Call ``attempt`` until it succeeds; give up when ``retries`` repetitions in a row bring no new bytes."""
    retries = patience.retries
    failures, furthest = 0, part.stat().st_size
    while True:
        try:
            return attempt()
        except _TryAgain as failure:
            length = part.stat().st_size
            # Only bytes beyond the furthest point count: a server that starts over each time must not run for ever.
            if length > furthest:
                failures, furthest = 0, length
            failures += 1
            if failures > retries:
                raise InputError(
                    f"{url}: {failure}; given up after {retries} retries with {length} bytes received. "
                    "Check the URL and the network and run again: the download goes on where the server allows it"
                ) from None
            seconds = _pause(failures, patience, failure.retry_after)
            print(f"{url}: {failure}; retry {failures} of {retries} in {seconds:.0f} s", file=sys.stderr, flush=True)
            time.sleep(seconds)


def _pause(failures: int, patience: _Patience, retry_after: str | None) -> float:
    """Seconds before the next try: Retry-After (seconds or a date) if it is longer than our own back-off."""
    seconds = patience.wait * 2.0 ** (failures - 1)
    asked = (retry_after or "").strip()
    if asked.isdecimal():
        seconds = max(seconds, float(asked))
    elif asked:
        with contextlib.suppress(ValueError):  # an unreadable header asks for nothing
            date = email.utils.parsedate_to_datetime(asked)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            seconds = max(seconds, (date - datetime.now(UTC)).total_seconds())
    return min(seconds, patience.longest_wait)


def _attempt(url: str, file: IO[bytes], side: Path, sha256: str | None, size: int | None, timeout: float) -> None:
    """Ask once for the file, or for the rest of it, and append what comes.

    Returns when the file is complete as far as the server tells; raises _TryAgain, _Wrong or InputError otherwise.
    """
    known = _part_of(side, url)
    if known is None or (_validator(known) is None and sha256 is None):
        _start_over(file, side)
    offset = _length(file)
    if known is not None and offset and offset == known["total"]:
        return  # killed between the last byte and the check
    response = _get(url, timeout, offset, known)
    if offset and response.status_code in (206, 416) and not _continues(response, offset, known):
        response.close()
        _start_over(file, side)
        offset = 0
        response = _get(url, timeout, offset, None)
    with response:
        if response.status_code == 200:
            _start_over(file, side)
            total = _announced(response, size, sha256)
            known = {
                "url": url,
                "total": total,
                "etag": response.headers.get("ETag"),
                "last_modified": response.headers.get("Last-Modified"),
            }
            files.write_json(side, known)
        elif response.status_code == 206 and offset:
            total = int(_content_range(response)[2])
        else:
            raise InputError(
                f"{url}: the server answers {response.status_code} {response.reason}, expected the file. Check the "
                "URL, or download the file by other means and put it in its place"
            )
        if total is not None and size is not None and total != size:
            raise _Wrong(f"expected {size} bytes, the server announces {total}")
        _append(response, file, url.rsplit("/", 1)[-1] or url, total)
    length = _length(file)
    if total is not None and length != total:
        if length > total:
            _start_over(file, side)
        raise _TryAgain(f"received {length} of {total} bytes")


def _part_of(side: Path, url: str) -> dict[str, Any] | None:
    """Read which remote file a part belongs to; None when that is not known or it is another one."""
    try:
        known = files.read_json(side)
    except InputError:
        return None
    complete = isinstance(known, dict) and {"url", "total", "etag", "last_modified"} <= known.keys()
    return known if complete and known["url"] == url else None


def _validator(known: dict[str, Any]) -> str | None:
    """What identifies a version of the remote file for If-Range: a strong ETag, else the date of its change."""
    etag = known["etag"]
    return etag if etag and not etag.startswith("W/") else known["last_modified"]


def _get(url: str, timeout: float, offset: int, known: dict[str, Any] | None) -> requests.Response:
    """Request the file from byte ``offset`` on; _TryAgain for what may pass, InputError for what will not."""
    # "identity": bytes, sizes and ranges are those of the file itself, never of a compressed transfer.
    headers = {"Accept-Encoding": "identity", "User-Agent": f"segswap/{__version__}"}
    if offset and known is not None:
        headers["Range"] = f"bytes={offset}-"
        if (validator := _validator(known)) is not None:
            headers["If-Range"] = validator
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=timeout)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _TryAgain(f"no connection ({error})") from None
    except (OSError, urllib3.exceptions.HTTPError) as error:  # OSError: those of requests, and missing certificates
        raise InputError(f"{url}: cannot be requested ({error}); check the URL") from None
    if response.status_code == 429 or response.status_code >= 500:
        response.close()
        reason = f"the server answers {response.status_code} {response.reason}"
        raise _TryAgain(reason, response.headers.get("Retry-After"))
    return response


def _content_range(response: requests.Response) -> tuple[str, str, str] | None:
    """First byte, last byte and total of a partial answer; None where one of them is missing."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", "").strip())
    return match.groups() if match else None


def _continues(response: requests.Response, offset: int, known: dict[str, Any]) -> bool:
    """Whether a partial answer is the rest of the very file whose first ``offset`` bytes we have."""
    found = _content_range(response)
    if response.status_code != 206 or found is None:
        return False
    first, last, total = map(int, found)
    if first != offset or last >= total or known["total"] not in (None, total):
        return False
    # Some servers ignore If-Range and send the rest of whatever the file is now.
    pairs = (
        (known["etag"], response.headers.get("ETag")),
        (known["last_modified"], response.headers.get("Last-Modified")),
    )
    return all(ours is None or theirs is None or ours == theirs for ours, theirs in pairs)


def _announced(response: requests.Response, size: int | None, sha256: str | None) -> int | None:
    """Total bytes of a whole answer, from Content-Length; None if its end shows in another way."""
    if "chunked" in response.headers.get("Transfer-Encoding", "").lower():
        return None  # the protocol itself marks the end
    length = response.headers.get("Content-Length", "").strip()
    if length.isdecimal():
        return int(length)
    if size is None and sha256 is None:
        raise InputError(
            f"{response.url}: the server does not say how long the file is, so a lost connection would look like its "
            "end; give its size or its SHA-256"
        )
    return size


def _append(response: requests.Response, file: IO[bytes], what: str, total: int | None) -> None:
    """Append the body of an answer to the part, chunk by chunk, each on the disk before the next is awaited."""
    with _byte_bar(what, total, _length(file)) as bar:
        try:
            # Undecoded: a server that labels photos.tar.gz with "Content-Encoding: gzip" means the file as it is.
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                file.write(chunk)
                file.flush()
                bar.update(len(chunk))
        except urllib3.exceptions.HTTPError as error:
            raise _TryAgain(f"the connection broke off after {_length(file)} bytes ({error})") from None


def _byte_bar(what: str, total: int | None, initial: int = 0) -> tqdm:
    """A progress bar in bytes, shown as ``segswap.progress`` shows items."""
    terminal = sys.stderr.isatty()
    return tqdm(
        desc=what,
        total=total,
        initial=initial,
        unit="B",
        unit_scale=True,
        mininterval=0.1 if terminal else LOG_SECONDS,
        maxinterval=10 if terminal else LOG_SECONDS,
        file=sys.stderr,
        ascii=not terminal,
        dynamic_ncols=terminal,
    )


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
    with _byte_bar(archive.name, total) as bar, contextlib.closing(members):
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
