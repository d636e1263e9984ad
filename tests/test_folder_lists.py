"""Lists of folders: what changes them, and what does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from segswap.files import read_json
from segswap.folder_lists import folder_state, list_folder, write_list


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("b.jpg", "a.png", "more/c.jpg"):
        (folder / name).write_bytes(name.encode())
    (folder / "more/c.txt").write_text("0 0.1 0.1 0.2 0.2 0.1 0.2")
    return folder


def test_a_list_has_the_files_of_its_kind_with_sizes_and_times(photos):
    found = list_folder(photos, "pictures")
    assert [name for name, _, _ in found] == ["a.png", "b.jpg", "more/c.jpg"]
    status = (photos / "b.jpg").stat()
    assert found[1] == ("b.jpg", status.st_size, status.st_mtime_ns)
    assert [name for name, _, _ in list_folder(photos, "labels")] == ["more/c.txt"]


def test_what_is_no_picture_changes_nothing(photos):
    before = folder_state(photos, "pictures")
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "more/desktop.ini"):
        (photos / name).write_bytes(b"x")
    (photos / "empty").mkdir()
    (photos / "gone.jpg").symlink_to("nowhere")
    os.utime(photos, (1, 1))
    assert folder_state(photos, "pictures") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.png").write_bytes(b"other"),
        lambda folder: shutil.copy2(folder / "b.jpg", folder / "a.png"),
        lambda folder: os.utime(folder / "more/c.jpg", ns=(0, 1)),
        lambda folder: (folder / "a.png").rename(folder / "d.png"),
        lambda folder: (folder / "a.png").unlink(),
        lambda folder: (folder / "more/e.JPG").write_bytes(b""),
    ],
    ids=["written", "replaced by an older one", "touched", "renamed", "removed", "added"],
)
def test_every_change_of_a_picture_changes_the_state(photos, change):
    before = folder_state(photos, "pictures")
    change(photos)
    os.utime(photos, (1, 1))
    assert folder_state(photos, "pictures") != before


def test_a_list_is_written_also_of_names_that_are_no_text(photos, tmp_path):
    (photos / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    write_list(photos, "pictures", tmp_path / "list.json")
    assert "caf\\xe9.jpg" in [name for name, _, _ in read_json(tmp_path / "list.json")]


@pytest.mark.parametrize("kind", ["pictures", "labels"])
def test_a_folder_without_files_has_an_empty_list(tmp_path, kind):
    assert list_folder(tmp_path, kind) == list_folder(tmp_path / "missing", kind) == []
