"""Archives that are damaged or mean harm."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bounded_memory import bounded_memory
from hypothesis import given, settings
from hypothesis import strategies as st

from segswap.errors import InputError
from segswap.unpack import unpack

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
BODY = random.Random(0).randbytes(300_000)
FILES = {"photos/a.jpg": b"a" * 3000, "photos/deep/it's & b.c.jpg": BODY, "notes.txt": b"text"}


def zipped(path: Path, members: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, 0) << 16
            packed.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def tarred(path: Path, members: dict[str, bytes], *more: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as packed:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
        for info in more:
            packed.addfile(info)
    return path


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def content(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


def refused(archive: Path, tmp_path: Path, *words: str) -> None:
    """Unpacking must fail with these words, keep the old folder, and leave nothing else anywhere."""
    folder = tmp_path / "out" / "data"
    folder.mkdir(parents=True)
    (folder / "old").write_bytes(b"old")
    before = content(tmp_path)
    with pytest.raises(InputError) as error:
        unpack(archive, folder)
    for word in (str(archive), *words):
        assert word in str(error.value)
    assert content(tmp_path) == before


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_unpack_gives_every_byte(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / "archive"
    if mode == "zip":
        zipped(archive, {**FILES, "empty/": b""})
    else:
        tarred(archive, FILES, entry("./empty/", tarfile.DIRTYPE), mode=mode)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    unpack(archive, folder)
    assert content(folder) == FILES
    assert list((folder / "empty").iterdir()) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["archive", "data"]


def test_prefix_takes_one_folder_and_drops_its_name(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "archive.tgz", {**FILES, "./photos/c.jpg": b"c", "photos2/d.jpg": b"d"}, mode="w:gz")
    unpack(archive, tmp_path / "data", "photos/")
    assert content(tmp_path / "data") == {"a.jpg": FILES["photos/a.jpg"], "deep/it's & b.c.jpg": BODY, "c.jpg": b"c"}
    with pytest.raises(InputError, match="nothing below 'paintings' to unpack"):
        unpack(archive, tmp_path / "data", "paintings")
    assert "a.jpg" in content(tmp_path / "data")


@pytest.mark.parametrize("name", ["../evil", "photos/../../evil", "/evil", "C:/evil", "..\\evil", "\\evil"])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, make: Callable) -> None:
    archive = make(tmp_path / "archive", {"good": b"good", name: b"evil"})
    refused(archive, tmp_path, repr(name), "outside the folder")


@pytest.mark.parametrize("target", ["/etc/hostname", "../../evil", "photos/../../../evil", "..", "../good/.."])
def test_links_that_leave_are_refused(tmp_path: Path, target: str) -> None:
    name = "link"
    (tmp_path / "tar").mkdir()
    archive = tarred(tmp_path / "archive.tar", {"good": b"good"}, entry(name, tarfile.SYMTYPE, target))
    refused(archive, tmp_path / "tar", "'link'", repr(target))
    archive = zipped(tmp_path / "archive.zip", {"good": b"good", name: target.encode()}, {name: stat.S_IFLNK | 0o777})
    (tmp_path / "zip").mkdir()
    refused(archive, tmp_path / "zip", "'link'", repr(target))


def test_links_that_leave_only_together_are_refused(tmp_path: Path) -> None:
    # "here" is the folder itself, so "here/out" would lie in it, one folder higher than its name says.
    links = [entry("here", tarfile.SYMTYPE, "."), entry("here/out", tarfile.SYMTYPE, "..")]
    refused(tarred(tmp_path / "one.tar", {"a": b"a"}, *links), tmp_path, "here")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_nothing_is_written_through_a_link(tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "file").write_bytes(b"untouched")
    with tarfile.open(tmp_path / "archive.tar", "w") as packed:
        packed.addfile(entry("link", kind, str(tmp_path / "target")))
        info = tarfile.TarInfo("link/file")
        info.size = 4
        packed.addfile(info, io.BytesIO(b"evil"))
    refused(tmp_path / "archive.tar", tmp_path, "'link'")
    assert (tmp_path / "target" / "file").read_bytes() == b"untouched"


def test_file_below_a_link_that_stays_is_a_clash(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive.tar", "w") as packed:
        packed.addfile(entry("folder", tarfile.DIRTYPE))
        packed.addfile(entry("link", tarfile.SYMTYPE, "folder"))
        packed.addfile(entry("link/file", tarfile.REGTYPE))
    refused(tmp_path / "archive.tar", tmp_path, "'link'", "another member")


def test_links_that_stay_are_made(tmp_path: Path) -> None:
    links = [
        entry("photos/deep/up", tarfile.SYMTYPE, "../a.jpg"),
        entry("photos/same", tarfile.LNKTYPE, "photos/a.jpg"),
    ]
    unpack(tarred(tmp_path / "archive.tar", FILES, *links), tmp_path / "data")
    photos = tmp_path / "data" / "photos"
    assert os.readlink(photos / "deep" / "up") == "../a.jpg"
    assert (photos / "deep" / "up").read_bytes() == FILES["photos/a.jpg"]
    assert (photos / "same").read_bytes() == FILES["photos/a.jpg"]
    assert (photos / "same").stat().st_nlink == 1
    archive = zipped(tmp_path / "archive.zip", {"a": b"a", "link": b"a"}, {"link": stat.S_IFLNK | 0o777})
    unpack(archive, tmp_path / "data")
    assert os.readlink(tmp_path / "data" / "link") == "a"


@pytest.mark.parametrize("target", ["/etc/hostname", "absent"])
def test_hard_link_to_something_else_is_refused(tmp_path: Path, target: str) -> None:
    refused(tarred(tmp_path / "archive.tar", FILES, entry("link", tarfile.LNKTYPE, target)), tmp_path, "'link'", target)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_refused(tmp_path: Path, kind: bytes) -> None:
    refused(tarred(tmp_path / "archive.tar", FILES, entry("null", kind)), tmp_path, "'null'", "a device or pipe")


def test_device_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive.zip", {"null": b""}, {"null": stat.S_IFCHR})
    refused(archive, tmp_path, "'null'", "a device or pipe")


@pytest.mark.parametrize("name", ["a/b", "a"])
def test_members_of_one_name(tmp_path: Path, name: str) -> None:
    """A file and a folder clash; of two files the later one counts, as in an updated tar."""
    archive = tarred(tmp_path / "archive.tar", {"a": b"first"})
    with tarfile.open(archive, "a") as packed:
        info = tarfile.TarInfo(name)
        info.size = 6
        packed.addfile(info, io.BytesIO(b"second"))
    if name == "a":
        unpack(archive, tmp_path / "data")
        assert content(tmp_path / "data") == {"a": b"second"}
    else:
        refused(archive, tmp_path, "'a/b'", "another member")


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_truncated_archives(tmp_path: Path, mode: str, keep: float) -> None:
    archive = tmp_path / "archive"
    zipped(archive, FILES) if mode == "zip" else tarred(archive, FILES, mode=mode)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * keep)] if mode != "w" or keep < 0.9 else data[:300_000])
    refused(archive, tmp_path, "delete the archive and download it again")


def test_tar_cut_between_two_members_or_with_a_broken_header(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "archive.tar", {"a": b"a" * 512, "b": b"b" * 512})
    data = archive.read_bytes()
    archive.write_bytes(data[:1024])
    refused(archive, tmp_path, "no end mark at byte 1024", "delete the archive")
    archive.write_bytes(data[:1024] + b"x" + data[1025:])
    with pytest.raises(InputError, match="no end mark at byte 1024"):
        unpack(archive, tmp_path / "new")


@pytest.mark.parametrize("mode", ["zip", "w:gz", "w:xz"])
def test_changed_byte_is_found_by_the_check_sum(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / "archive"
    zipped(archive, FILES) if mode == "zip" else tarred(archive, FILES, mode=mode)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    refused(archive, tmp_path, "delete the archive")


def test_data_that_cannot_be_inflated(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive.zip", {"a": b"a" * 3000})
    data = bytearray(archive.read_bytes())
    data[31] = 0xFF  # behind the header of 30 bytes and the name: a kind of block that there is not
    archive.write_bytes(data)
    refused(archive, tmp_path, "invalid block type", "delete the archive")


def test_check_sum_is_read_behind_the_padding(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "archive.tgz", FILES)
    data = bytearray(gzip.compress(archive.read_bytes() + bytes(3 << 20)))
    data[-8] ^= 1
    archive.write_bytes(data)
    refused(archive, tmp_path, "damaged", "delete the archive")


WEB = {
    "Data/Airplane100/0001.jpg": b"a",
    "Data/Airplane100/GroundTruth/0001.png": b"a",
    "Data/Car100/GroundTruth/0001.png": b"c",
    "Data/Car100/GroundTruth/0002.png": b"c",
    "Results/Car100/GroundTruth/0001.png": b"r",
}
CLASSES = ("Airplane100/GroundTruth/*.png", "Car100/GroundTruth/*.png")


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("above", ["", "ObjectDiscovery-data/", "./a/b/"])
def test_the_folder_is_found_by_what_it_holds(tmp_path: Path, make: Callable, above: str) -> None:
    archive = make(tmp_path / "archive", {above + name: data for name, data in WEB.items()})
    unpack(archive, tmp_path / "data", holds=CLASSES)
    expected = {name.removeprefix("Data/"): data for name, data in WEB.items() if name.startswith("Data/")}
    assert content(tmp_path / "data") == expected


def test_of_several_folders_the_one_with_most_pictures_is_taken(tmp_path: Path) -> None:
    notes = {f"__MACOSX/Brueghel/._{n}.jpg": b"note" for n in range(9)}
    pictures = {"Brueghel/a.JPG": b"a", "Brueghel/b.jpg": b"b", "Brueghel/more/c.jpg": b"c", "Brueghel/._a.jpg": b"n"}
    unpack(zipped(tmp_path / "archive", notes | pictures), tmp_path / "data", holds=["*.jpg"])
    assert {"a.JPG", "b.jpg"} < set(content(tmp_path / "data"))
    flat = zipped(tmp_path / "flat", {"a.jpg": b"a"})
    unpack(flat, tmp_path / "data", holds=["*.jpg"])
    assert content(tmp_path / "data") == {"a.jpg": b"a"}


def test_an_archive_without_the_expected_folder_says_what_it_holds(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"photos/a.png": b"", "b": b""})
    with pytest.raises(
        InputError, match=r"no folder in it holds \*\.jpg; found at the top: 'b', 'photos'\. Name the f"
    ):
        unpack(archive, tmp_path / "data", holds=["*.jpg"])
    archive = zipped(tmp_path / "two", {"a/1.jpg": b"", "b/1.jpg": b""})
    with pytest.raises(InputError, match=r"'a', 'b' hold as many files of \*\.jpg each; name the folder"):
        unpack(archive, tmp_path / "data", holds=["*.jpg"])
    assert not (tmp_path / "data").exists()


def claimed(path: Path, size: int) -> Path:
    """Write a zip whose one member claims to have a size."""
    data = bytearray(zipped(path, {"zeros": bytes(100_000)}).read_bytes())
    directory = data.index(b"PK\x01\x02")
    for at in (22, directory + 24):
        data[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    return path


def gzipped_tar(path: Path, *headers: bytes, after: bytes = bytes(1024)) -> Path:
    path.write_bytes(gzip.compress(b"".join(headers) + after, 1))
    return path


def header(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def zeros(path: Path) -> Path:
    return gzipped_tar(path, header("zeros", tarfile.REGTYPE, 20 << 30))


def names_without_end(path: Path) -> Path:
    return gzipped_tar(path, header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 90 << 20), after=bytes(90 << 20))


def pax_without_end(path: Path) -> Path:
    return gzipped_tar(path, header("pax", tarfile.XHDTYPE, 90 << 20), after=b"9" * (90 << 20))


def headers_on_headers(path: Path) -> Path:
    return gzipped_tar(path, *[header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 4) + b"name".ljust(512, b"\0")] * 3000)


def sparse(path: Path) -> Path:
    return gzipped_tar(path, header("sparse", tarfile.GNUTYPE_SPARSE, 0))


def link_of_any_length(path: Path) -> Path:
    return zipped(path, {"link": bytes(5000)}, {"link": stat.S_IFLNK | 0o777})


BOMBS = {
    "a zip that claims 4 GB": (lambda path: claimed(path, (1 << 32) - 2), "that become more than"),
    "a tar that claims 20 GB": (zeros, "that become more than"),
    "a name of 90 MB": (names_without_end, "a header larger than any"),
    "a header of 90 MB": (pax_without_end, "a header larger than any"),
    "headers without a member": (headers_on_headers, "delete the archive"),
    "a sparse file": (sparse, "a sparse file"),
    "a link longer than any": (link_of_any_length, "the target of the link"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_before_they_take_disk_or_memory(tmp_path: Path, bomb: str) -> None:
    make, words = BOMBS[bomb]
    archive = make(tmp_path / "archive")
    with bounded_memory(60):
        refused(archive, tmp_path, words)


def test_copies_by_hard_links_count_and_so_does_padding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segswap.unpack.LARGEST", (1 << 20, 2))
    links = [entry(f"link{n}", tarfile.LNKTYPE, "a") for n in range(40)]
    (tmp_path / "links").mkdir()
    refused(tarred(tmp_path / "links.tgz", {"a": BODY}, *links, mode="w:gz"), tmp_path / "links", "become more than")
    archive = gzipped_tar(tmp_path / "padding.tgz", header("a", tarfile.REGTYPE, 0), after=bytes(4 << 20))
    refused(archive, tmp_path, "delete the archive")


def test_empty_files_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segswap.unpack.LARGEST", (1 << 20, 1))
    archive = gzipped_tar(tmp_path / "a.tgz", *[header(f"{n}", tarfile.REGTYPE, 0) for n in range(2000)])
    refused(archive, tmp_path, "that become more than")


def test_a_member_without_a_name_is_damage(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "archive", {"a": b"a"}).read_bytes())
    lengths = data.index(b"PK\x01\x02") + 28  # of the name, and of what comes behind it
    data[lengths : lengths + 4] = b"\0\0\1\0"
    (tmp_path / "archive").write_bytes(data)
    refused(tmp_path / "archive", tmp_path, "damaged")


@given(
    kind=st.sampled_from(["zip", "w", "w:gz", "w:bz2", "w:xz"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_bytes_are_nothing_is_written_elsewhere(tmp_path_factory, kind: str, changes: list) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    archive = tmp_path / "archive"
    members = {"photos/a.jpg": b"a" * 600, "photos/link": b"a.jpg"}
    if kind == "zip":
        zipped(archive, members, {"photos/link": stat.S_IFLNK | 0o777})
    else:
        tarred(archive, members, entry("photos/up", tarfile.SYMTYPE, "a.jpg"), mode=kind)
    data = bytearray(archive.read_bytes())
    for place, value in changes:
        at = int(place * len(data))
        data[at : at + len(value)] = value
    archive.write_bytes(data)
    with bounded_memory(300), contextlib.suppress(InputError):
        unpack(archive, tmp_path / "out" / "data")
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "out"}
    out = tmp_path / "out"
    assert not out.exists() or {path.name for path in out.iterdir()} <= {"data"}
    assert all(path.resolve().is_relative_to(out.resolve()) for path in out.rglob("*"))


def test_page_instead_of_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "archive.zip"
    archive.write_text("<!DOCTYPE html><p>Please log in</p>" * 50)
    refused(archive, tmp_path, "neither zip nor tar")


def test_empty_missing_and_encrypted_archives(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "empty.zip", {}), tmp_path, "nothing in it to unpack")
    with pytest.raises(InputError, match=r"absent\.zip: no such file"):
        unpack(tmp_path / "absent.zip", tmp_path / "data")
    archive = zipped(tmp_path / "locked.zip", {"a": b"a"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(InputError, match="member 'a' is encrypted"):
        unpack(archive, tmp_path / "data")


def test_unpack_program(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive.zip", FILES)
    command = [sys.executable, str(SCRIPTS / "unpack.py"), "--archive", str(archive), "--output"]
    subprocess.run([*command, str(tmp_path / "data"), "--prefix", "photos"], check=True, capture_output=True)
    assert sorted(content(tmp_path / "data")) == ["a.jpg", "deep/it's & b.c.jpg"]
    subprocess.run([*command, str(tmp_path / "found"), "--holds", "*.jpg"], check=True, capture_output=True)
    assert sorted(content(tmp_path / "found")) == ["a.jpg", "deep/it's & b.c.jpg"]
    archive.write_bytes(archive.read_bytes()[:1000])
    done = subprocess.run([*command, str(tmp_path / "other")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
