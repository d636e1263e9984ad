"""Downloads against a misbehaving server on this machine."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import random
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from segswap.download import _Patience, _pause, download, fetch
from segswap.errors import InputError

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
CUT = 200_000
QUICK = {"wait": 0.01, "longest_wait": 0.05, "timeout": 5.0}


class Site(socketserver.ThreadingTCPServer):
    """A web server with one file; ``plan`` says how each of the next requests is mistreated."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.etag: str | None = '"one"'
        self.plan: list[dict] = []
        self.ranges: list[str | None] = []
        self.headers: list = []
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/photos.zip"


class Handler(BaseHTTPRequestHandler):
    """Serve the file of the site.

    What a plan may hold: ``status`` (an error), ``headers`` (more or other ones, None: leave out), ``cut`` (break
    off at this byte of the file), ``stall`` (wait at this byte until the site's event), ``ignore_range``,
    ``ignore_if_range``, ``chunked``.
    """

    server: Site
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.server
        plan = site.plan.pop(0) if site.plan else {}
        site.ranges.append(self.headers["Range"])
        site.headers.append(self.headers)
        self.close_connection = True
        if "status" in plan:
            self.answer(plan["status"], {"Content-Length": "0"} | plan.get("headers", {}))
            return
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.headers["Range"] else 0
        condition = self.headers["If-Range"]
        same = condition is None or condition == site.etag or plan.get("ignore_if_range")
        if plan.get("ignore_range") or not same:
            start = 0
        total = len(site.body)
        if start >= total and start:
            self.answer(416, {"Content-Length": "0", "Content-Range": f"bytes */{total}"})
            return
        headers = {"Content-Length": str(total - start), "ETag": site.etag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        if plan.get("chunked"):
            headers |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
        self.answer(206 if start else 200, headers | plan.get("headers", {}))
        end = plan.get("cut", plan.get("stall", total))
        if plan.get("chunked"):
            self.wfile.write(b"%x\r\n%s\r\n" % (end - start, site.body[start:end]))
            self.wfile.write(b"0\r\n\r\n" if end == total else b"")
            return
        self.wfile.write(site.body[start:end])
        if "stall" in plan:
            self.wfile.flush()
            site.release.wait(20)
            self.wfile.write(site.body[end:])

    def answer(self, status: int, headers: dict[str, str | None]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "photos.zip"


def part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def left(path: Path) -> list[str]:
    """Names in the folder of the download."""
    return sorted(entry.name for entry in path.parent.iterdir())


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after 10 seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def break_off(site: Site, path: Path) -> None:
    """Leave a part of CUT bytes of the file behind."""
    site.plan = [{"cut": CUT}]
    with pytest.raises(InputError, match="given up after 0 retries"):
        download(site.url, path, retries=0, **QUICK)
    assert part(path).read_bytes() == BODY[:CUT]
    site.ranges.clear()
    site.headers.clear()


def test_plain_download_leaves_only_the_file(site: Site, path: Path) -> None:
    download(site.url, path, sha256=DIGEST.upper(), size=len(BODY), **QUICK)
    assert path.read_bytes() == BODY
    assert left(path) == ["photos.zip"]
    assert site.ranges == [None]
    assert site.headers[0]["Accept-Encoding"] == "identity"


def test_file_with_the_expected_hash_is_kept_and_another_replaced(site: Site, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(BODY)
    download(site.url, path, sha256=DIGEST, **QUICK)
    assert site.ranges == []
    path.write_bytes(OTHER)
    download(site.url, path, sha256=DIGEST, **QUICK)
    assert path.read_bytes() == BODY


def test_empty_file(site: Site, path: Path) -> None:
    site.body = b""
    download(site.url, path, **QUICK)
    assert path.read_bytes() == b""
    assert left(path) == ["photos.zip"]


def test_broken_connection_goes_on_by_range(site: Site, path: Path) -> None:
    site.plan = [{"cut": 100_000}, {"cut": CUT}]
    download(site.url, path, **QUICK)
    assert path.read_bytes() == BODY
    assert site.ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert [headers["If-Range"] for headers in site.headers] == [None, '"one"', '"one"']


def test_part_of_an_earlier_call_is_continued(site: Site, path: Path) -> None:
    break_off(site, path)
    assert not path.exists()
    download(site.url, path, **QUICK)
    assert path.read_bytes() == BODY
    assert site.ranges == ["bytes=200000-"]
    assert left(path) == ["photos.zip"]


def test_complete_part_needs_no_request(site: Site, path: Path) -> None:
    break_off(site, path)
    part(path).write_bytes(BODY)
    download(site.url, path, **QUICK)
    assert path.read_bytes() == BODY
    assert site.ranges == []


def test_last_modified_is_the_validator_beside_a_weak_etag(site: Site, path: Path) -> None:
    date = "Fri, 01 Mar 2024 00:00:00 GMT"
    site.etag = 'W/"weak"'
    site.plan = [{"cut": CUT, "headers": {"Last-Modified": date}}, {"ignore_if_range": True}]
    download(site.url, path, **QUICK)
    assert path.read_bytes() == BODY
    assert site.headers[1]["If-Range"] == date
    assert site.ranges == [None, "bytes=200000-"]


def test_without_a_validator_only_a_known_hash_allows_to_continue(site: Site, path: Path) -> None:
    site.etag = None
    site.plan = [{"cut": CUT}]
    download(site.url, path, **QUICK)
    assert site.ranges == [None, None]
    assert path.read_bytes() == BODY
    path.unlink()
    site.plan = [{"cut": CUT}]
    download(site.url, path, sha256=DIGEST, **QUICK)
    assert site.ranges[2:] == [None, "bytes=200000-"]
    assert path.read_bytes() == BODY


def test_server_that_ignores_range(site: Site, path: Path) -> None:
    break_off(site, path)
    site.plan = [{"ignore_range": True}]
    download(site.url, path, **QUICK)
    assert path.read_bytes() == BODY
    assert site.ranges == ["bytes=200000-"]


@pytest.mark.parametrize(
    "content_range",
    ["bytes 100000-299999/300000", "bytes 200000-299999/400000", "bytes 200000-299999/*", "bytes 200000-300000/300000"],
    ids=["start", "total", "no total", "end"],
)
def test_rest_that_does_not_fit_is_not_glued(site: Site, path: Path, content_range: str) -> None:
    break_off(site, path)
    site.plan = [{"headers": {"Content-Range": content_range}}]
    download(site.url, path, retries=0, **QUICK)
    assert path.read_bytes() == BODY
    assert site.ranges == ["bytes=200000-", None]


@pytest.mark.parametrize("ignored", [False, True])
def test_changed_file_is_not_glued_to_an_old_part(site: Site, path: Path, ignored: bool) -> None:
    break_off(site, path)
    site.body, site.etag = OTHER, '"two"'
    site.plan = [{"ignore_if_range": ignored}]
    download(site.url, path, retries=0, **QUICK)
    assert path.read_bytes() == OTHER
    assert site.ranges == ["bytes=200000-"] + [None] * ignored


def test_part_of_another_url_starts_over(site: Site, path: Path) -> None:
    break_off(site, path)
    site.body = OTHER
    download(site.url + "?version=2", path, **QUICK)
    assert path.read_bytes() == OTHER
    assert site.ranges == [None]


def test_part_longer_than_a_file_of_the_same_etag_starts_over(site: Site, path: Path) -> None:
    break_off(site, path)
    site.body = BODY[:1000]
    download(site.url, path, retries=0, **QUICK)
    assert path.read_bytes() == BODY[:1000]


def test_unavailable_server_is_asked_again(site: Site, path: Path, capsys: pytest.CaptureFixture) -> None:
    site.plan = [{"status": 503}, {"status": 429}, {"status": 500}]
    download(site.url, path, retries=3, **QUICK)
    assert path.read_bytes() == BODY
    assert "the server answers 503 Service Unavailable; retry 1 of 3" in capsys.readouterr().err


def test_retries_end_and_the_message_says_why(site: Site, path: Path) -> None:
    site.plan = [{"status": 503}] * 3
    with pytest.raises(InputError, match=r"photos\.zip: the server answers 503 .* after 2 retries"):
        download(site.url, path, retries=2, **QUICK)
    assert len(site.ranges) == 3
    assert left(path) == []


def test_retry_after_is_honoured_and_bounded(site: Site, path: Path) -> None:
    site.plan = [{"status": 503, "headers": {"Retry-After": "1"}}]
    begin = time.monotonic()
    download(site.url, path, wait=0.01, longest_wait=5.0)
    assert time.monotonic() - begin >= 1.0
    site.plan = [{"status": 503, "headers": {"Retry-After": "3600"}}]
    begin = time.monotonic()
    download(site.url, path, wait=0.01, longest_wait=0.3)
    assert 0.3 <= time.monotonic() - begin < 5.0


def test_pauses_double_and_follow_the_header() -> None:
    patience = _Patience(wait=2.0, longest_wait=60.0)
    assert [_pause(failures, patience, None) for failures in (1, 2, 3, 9)] == [2.0, 4.0, 8.0, 60.0]
    assert [_pause(3, patience, asked) for asked in ("20", "1", "soon", "3600")] == [20.0, 8.0, 8.0, 60.0]
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25.0 < _pause(1, patience, date) <= 30.0


def test_progress_resets_the_count_of_retries(site: Site, path: Path) -> None:
    site.plan = [{"cut": end} for end in range(50_000, 300_000, 50_000)]
    download(site.url, path, retries=1, **QUICK)
    assert path.read_bytes() == BODY


def test_starting_over_each_time_is_no_progress(site: Site, path: Path) -> None:
    site.plan = [{"cut": CUT, "ignore_range": True}] * 50
    with pytest.raises(InputError, match="after 2 retries"):
        download(site.url, path, retries=2, **QUICK)
    assert len(site.ranges) == 3


def test_silent_server_times_out_and_is_asked_again(site: Site, path: Path) -> None:
    site.plan = [{"stall": 131_072}]
    download(site.url, path, wait=0.01, timeout=0.2)
    assert path.read_bytes() == BODY
    assert site.ranges == [None, "bytes=131072-"]


def test_no_server(path: Path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_address[1]
    with pytest.raises(InputError, match=r"no connection .* given up after 1 retries with 0 bytes"):
        download(f"http://127.0.0.1:{port}/photos.zip", path, retries=1, **QUICK)
    assert left(path) == []


@pytest.mark.parametrize("status", [204, 206, 403, 404, 416])
def test_refusal_is_not_retried(site: Site, path: Path, status: int) -> None:
    site.plan = [{"status": status}]
    with pytest.raises(InputError, match=f"photos.zip: the server answers {status}"):
        download(site.url, path, **QUICK)
    assert len(site.ranges) == 1
    assert left(path) == []


@pytest.mark.parametrize("url", ["photos.zip", "ftp://example.org/photos.zip", "http://"])
def test_address_that_is_none(path: Path, url: str) -> None:
    with pytest.raises(InputError, match="cannot be requested"):
        download(url, path, **QUICK)


def test_announced_length_too_large(site: Site, path: Path) -> None:
    site.plan = [{"headers": {"Content-Length": "300100"}}] * 10
    with pytest.raises(InputError, match=r"broke off after 300000 bytes.* after 1 retries"):
        download(site.url, path, retries=1, **QUICK)
    assert not path.exists()


def test_announced_length_too_small_shows_by_size_and_by_hash(site: Site, path: Path) -> None:
    site.plan = [{"headers": {"Content-Length": "1000"}}]
    with pytest.raises(InputError, match="expected 300000 bytes, the server announces 1000"):
        download(site.url, path, size=len(BODY), **QUICK)
    site.plan = [{"headers": {"Content-Length": "1000"}}]
    with pytest.raises(InputError, match=f"expected SHA-256 {DIGEST}, found .* \\(1000 bytes\\)"):
        download(site.url, path, sha256=DIGEST, **QUICK)
    assert left(path) == []


def test_chunked_answer_shows_its_own_end(site: Site, path: Path) -> None:
    site.plan = [{"chunked": True, "cut": 65_536}, {"chunked": True, "ignore_range": True}]
    download(site.url, path, **QUICK)
    assert path.read_bytes() == BODY
    assert len(site.ranges) == 2
    site.plan = [{"chunked": True}]
    with pytest.raises(InputError, match="expected 299999 bytes, found 300000"):
        download(site.url, path, size=299_999, **QUICK)


def test_unknown_length_needs_a_size_or_a_hash(site: Site, path: Path) -> None:
    plan = {"headers": {"Content-Length": None}}
    site.plan = [plan]
    with pytest.raises(InputError, match="does not say how long"):
        download(site.url, path, **QUICK)
    site.plan = [plan | {"cut": CUT}]
    download(site.url, path, size=len(BODY), **QUICK)
    assert path.read_bytes() == BODY
    site.plan = [plan]
    path.unlink()
    download(site.url, path, sha256=DIGEST, **QUICK)
    assert path.read_bytes() == BODY


def test_content_encoding_is_not_undone(site: Site, path: Path) -> None:
    site.body = gzip.compress(BODY)
    site.plan = [{"headers": {"Content-Encoding": "gzip"}}]
    download(site.url, path, **QUICK)
    assert path.read_bytes() == site.body


def test_wrong_file_is_removed_and_named(site: Site, path: Path) -> None:
    site.body = OTHER
    found = hashlib.sha256(OTHER).hexdigest()
    with pytest.raises(InputError) as error:
        download(site.url, path, sha256=DIGEST, **QUICK)
    for word in (site.url, str(path), DIGEST, found, "check the URL"):
        assert word in str(error.value)
    assert left(path) == []


def test_wrong_file_leaves_the_old_one(site: Site, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"old")
    site.body = OTHER
    with pytest.raises(InputError):
        download(site.url, path, sha256=DIGEST, **QUICK)
    assert path.read_bytes() == b"old"


def test_malformed_hash_is_found_before_any_request(site: Site, path: Path) -> None:
    with pytest.raises(InputError, match="64 hexadecimal digits, found 'd41d8'"):
        download(site.url, path, sha256="d41d8", **QUICK)
    assert site.ranges == []


def test_nothing_under_the_final_name_before_it_is_complete(site: Site, path: Path) -> None:
    site.plan = [{"stall": 131_072}]
    thread = threading.Thread(target=download, args=(site.url, path), kwargs={"timeout": 10.0})
    thread.start()
    until(lambda: part(path).exists() and part(path).stat().st_size == 131_072)
    assert left(path) == [".photos.zip.part", ".photos.zip.part.json"]
    site.release.set()
    thread.join()
    assert left(path) == ["photos.zip"]
    assert path.read_bytes() == BODY


def test_two_downloads_of_one_file(site: Site, path: Path) -> None:
    break_off(site, path)
    with open(part(path), "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is downloading"):
            download(site.url, path, **QUICK)
    assert part(path).read_bytes() == BODY[:CUT]
    download(site.url, path, **QUICK)
    assert path.read_bytes() == BODY


def test_folder_that_cannot_be_made(site: Site, path: Path) -> None:
    path.parent.write_bytes(b"a file where the folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        download(site.url, path, **QUICK)


def test_killed_program_goes_on(site: Site, path: Path) -> None:
    site.plan = [{"stall": 131_072}]
    record = path.with_name("photos.json")
    arguments = ["--url", site.url, "--output", str(path), "--record", str(record)]
    command = [sys.executable, str(SCRIPTS / "download.py"), *arguments]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: part(path).exists() and part(path).stat().st_size == 131_072)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert first.returncode == -signal.SIGKILL
    assert left(path) == [".photos.zip.part", ".photos.zip.part.json"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert site.ranges == [None, "bytes=131072-"]
    assert path.read_bytes() == BODY
    assert json.loads(record.read_text()) == {"url": site.url, "sha256": DIGEST, "size": len(BODY)}


def test_first_download_is_recorded_and_later_ones_held_to_it(site: Site, path: Path) -> None:
    record = path.with_name("photos.json")
    fetch(site.url, path, record, **QUICK)
    written = record.read_bytes()
    assert json.loads(written) == {"url": site.url, "sha256": DIGEST, "size": len(BODY)}
    path.unlink()
    fetch(site.url, path, record, **QUICK)
    assert path.read_bytes() == BODY

    path.unlink()
    for body in (OTHER[:1000], OTHER):
        site.body, site.etag = body, '"two"'
        with pytest.raises(InputError, match=r"remote file has changed .*photos\.json; .* delete that record"):
            fetch(site.url, path, record, **QUICK)
        assert left(path) == ["photos.json"]
        assert record.read_bytes() == written
    record.unlink()
    fetch(site.url, path, record, **QUICK)
    assert path.read_bytes() == OTHER
    assert json.loads(record.read_text())["sha256"] == hashlib.sha256(OTHER).hexdigest()


def test_given_values_and_another_url_go_before_the_record(site: Site, path: Path) -> None:
    record = path.with_name("photos.json")
    fetch(site.url, path, record, **QUICK)
    site.body = OTHER[:1000]
    fetch(site.url, path, record, size=1000, **QUICK)
    assert json.loads(record.read_text())["size"] == 1000
    site.body, digest = OTHER, hashlib.sha256(OTHER).hexdigest()
    fetch(site.url, path, record, sha256=digest.upper(), **QUICK)
    assert json.loads(record.read_text())["sha256"] == digest
    site.body = BODY
    fetch(site.url + "?version=2", path, record, **QUICK)
    assert json.loads(record.read_text()) == {"url": site.url + "?version=2", "sha256": DIGEST, "size": len(BODY)}


@pytest.mark.parametrize("text", ["{", "[]", '{"url": "x", "sha256": "y"}'])
def test_damaged_record(site: Site, path: Path, text: str) -> None:
    path.parent.mkdir()
    record = path.with_name("photos.json")
    record.write_text(text)
    with pytest.raises(InputError, match=r"photos\.json: not "):
        fetch(site.url, path, record, **QUICK)
    assert site.ranges == []


def test_program_reports_in_one_line(site: Site, path: Path) -> None:
    site.plan = [{"status": 404}]
    command = [sys.executable, str(SCRIPTS / "download.py"), "--url", site.url, "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {site.url}: the server answers 404")
    assert "Traceback" not in done.stderr
