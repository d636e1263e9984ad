"""Files from the network: downloads that continue after any interruption and are checked.

What has arrived of ``photos.zip`` lies beside it in ``.photos.zip.part``, which survives a killed job; a small
``.photos.zip.part.json`` says which version of which remote file it is a part of. ``photos.zip`` itself appears
only when it is complete and checked.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import fcntl
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import requests
import urllib3

from segswap import __version__, files
from segswap.errors import InputError
from segswap.progress import byte_progress

_CHUNK = 1 << 16


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
    with byte_progress(what, total, _length(file)) as bar:
        try:
            # Undecoded: a server that labels photos.tar.gz with "Content-Encoding: gzip" means the file as it is.
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                file.write(chunk)
                file.flush()
                bar.update(len(chunk))
        except urllib3.exceptions.HTTPError as error:
            raise _TryAgain(f"the connection broke off after {_length(file)} bytes ({error})") from None
