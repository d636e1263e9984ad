"""The index of a folder: made once, only what changed is made again, and what cannot be used is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from search_folders import draw_picture, make_model, write_folder

from segswap.errors import InputError
from segswap.files import claim
from segswap.images import encode_jpeg, read_image, resize
from segswap.search import index as index_module
from segswap.search.cells import as_vectors, projected
from segswap.search.index import open_index
from segswap.search.projection import Projection
from segswap.search.windows import level_sizes

NAMES = ["1.jpg", "2.jpg", "3 & <b>.jpg", "4.jpg", "5.jpg"]


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pictures", dict.fromkeys(NAMES))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the pictures that are read for an index, as they are read."""
    names: list[str] = []

    def noted(path):
        names.append(path.name)
        return read_image(path)

    monkeypatch.setattr(index_module, "read_image", noted)
    return names


def same(a, b) -> bool:
    """Return whether two indexes hold the same."""
    return (
        a.names == b.names
        and a.grids == b.grids
        and a.projection.key == b.projection.key
        and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("sizes", "cells"))
    )


def files_in(store) -> list[str]:
    return sorted(path.name.split("-")[0] for path in store.iterdir())


FILES = ["cells", "index.json", "index.lock", "projection"]


def test_the_cells_are_those_of_the_pictures_at_all_sizes(folder, model, store):
    found = open_index(folder, model, store)
    assert found.names == tuple(NAMES) and len(found) == 5 and found.left_out == {}
    assert found.sizes.tolist() == [[120, 100]] * 5
    picture = read_image(folder / NAMES[2])
    np.testing.assert_array_equal(found.read(2), picture)
    sizes = level_sizes((120, 100))
    assert len(sizes) > 3 and found.grids[2] == tuple((height // 16, width // 16) for width, height in sizes)
    for level, size in zip(found.levels(2).maps(), sizes, strict=True):
        expected = projected(model, found.projection, resize(picture, size))
        np.testing.assert_allclose(level, expected, atol=0.6 / 127)
    few, all_sizes = found.levels(2, 2), found.levels(2)
    assert few.grids == all_sizes.grids[:2] and torch.equal(few.cells, all_sizes.cells[: len(few.cells)])
    assert torch.equal(all_sizes.first(2).cells, few.cells)


def test_it_is_made_once_and_says_what_it_takes(folder, model, store, read, capsys):
    first = open_index(folder, model, store)
    assert set(read) == set(NAMES)
    read.clear()
    before = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    assert same(open_index(folder, model, store), first)
    assert read == [] and {path: path.stat().st_mtime_ns for path in store.iterdir()} == before
    assert f"5 pictures, {first.bytes / 1e6:.1f} MB in {store}" in capsys.readouterr().out
    on_disk = sum(path.stat().st_size for path in store.glob("c*-*.i8"))
    assert on_disk == first.bytes == first.cells.nbytes
    assert files_in(store) == FILES


def test_only_new_and_changed_pictures_are_read_and_the_projection_stays(folder, model, store, read, tmp_path):
    old = open_index(folder, model, store)
    cells = as_vectors(old.cells)
    (folder / "0 new.jpg").write_bytes(encode_jpeg(draw_picture(77)))
    (folder / "2.jpg").write_bytes(encode_jpeg(draw_picture(78, size=(64, 200))))
    (folder / "5.jpg").unlink()
    read.clear()
    found = open_index(folder, model, store)
    assert read == ["0 new.jpg", "2.jpg"] and found.projection.key == old.projection.key
    assert found.names == ("0 new.jpg", *NAMES[:4]) and found.sizes[2].tolist() == [64, 200]
    assert same(found, open_index(folder, model, tmp_path / "fresh", projection=old.projection))
    assert files_in(store) == FILES
    assert np.array_equal(as_vectors(old.cells), cells), "who has the old one open goes on with it"


def test_an_index_can_have_the_projection_of_another(folder, model, tmp_path):
    own = open_index(folder, model, tmp_path / "own")
    other = Projection(own.projection.mean + 1, own.projection.matrix)
    given = open_index(folder, model, tmp_path / "given", projection=other)
    assert given.projection.key == other.key and not np.array_equal(given.cells, own.cells)
    with pytest.raises(InputError, match="holds an index with given_projection"):
        open_index(folder, model, tmp_path / "own", projection=other)


def test_subfolders_are_looked_into_where_that_is_asked_for(folder, model, store, read):
    write_folder(folder / "more" / "still", {"1.jpg": None, "6.jpg": None})
    plain = open_index(folder, model, store)
    assert list(plain.names) == NAMES
    read.clear()
    deep = open_index(folder, model, store, subfolders=True)
    assert sorted(deep.names) == sorted([*NAMES, "more/still/1.jpg", "more/still/6.jpg"])
    assert sorted(read) == ["1.jpg", "6.jpg"], "only what is new is read"
    assert np.array_equal(deep.read(deep.names.index("more/still/1.jpg")), read_image(folder / "more/still/1.jpg"))


def test_the_place_is_in_the_cache_and_another_for_another_model_folder_or_projection(
    folder, model, tmp_path, monkeypatch, read
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    other = write_folder(tmp_path / "other" / "pictures", {"1.jpg": None})
    projection = open_index(folder, model).projection
    open_index(folder, make_model(1))
    open_index(other, model)
    open_index(other, model, projection=projection)
    places = list((tmp_path / "cache" / "segswap").iterdir())
    assert len(places) == 4 and all(place.name.startswith("pictures-") for place in places)
    read.clear()
    monkeypatch.chdir(tmp_path)
    open_index("pictures", model)
    assert read == [], "the same folder under another path"


@pytest.mark.parametrize("what", ["folder", "backbone"])
def test_a_store_of_something_else_is_not_written_over(folder, model, store, tmp_path, what):
    open_index(folder, model, store)
    other = {"folder": folder, "model": model}
    if what == "folder":
        other["folder"] = write_folder(tmp_path / "others", {"1.jpg": None})
    else:
        other["model"] = make_model(1)
    with pytest.raises(InputError, match=f"holds an index with {what} .* choose another --store"):
        open_index(**other, store=store)
    assert len(open_index(folder, model, store)) == 5


def test_an_index_of_an_older_version_is_named(folder, model, store):
    store.mkdir()
    (store / "index.json").write_text(json.dumps({"format": "segswap-index-1", "images": []}))
    with pytest.raises(InputError, match="holds an index with format 'segswap-index-1', this one has"):
        open_index(folder, model, store)


# Pictures that do not open


def test_unreadable_pictures_are_left_out_and_named(folder, model, store, read, capsys):
    whole = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(bytes(len(whole)))
    (folder / "4.jpg").write_bytes(b"")
    found = open_index(folder, model, store)
    said = capsys.readouterr().out
    assert found.names == ("1.jpg", "3 & <b>.jpg", "5.jpg")
    assert sorted(found.left_out) == ["2.jpg", "4.jpg"]
    assert "2 left out:" in said and "2.jpg: " in said and "do not decode as a picture" in said
    assert len(found.cells) == sum(rows * columns for grids in found.grids for rows, columns in grids)
    last = projected(model, found.projection, resize(read_image(folder / "5.jpg"), level_sizes((120, 100))[-1]))
    np.testing.assert_allclose(found.levels(2).maps()[-1], last, atol=0.6 / 127)
    read.clear()
    assert len(open_index(folder, model, store)) == 3
    assert sorted(read) == ["2.jpg", "4.jpg"], "only whether they open by now"
    # It opens again, and neither its size nor its time tells.
    stamp = (folder / "2.jpg").stat()
    (folder / "2.jpg").write_bytes(whole)
    os.utime(folder / "2.jpg", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert open_index(folder, model, store).names == ("1.jpg", "2.jpg", "3 & <b>.jpg", "5.jpg")


def test_a_picture_that_goes_while_the_folder_is_read_is_left_out(folder, model, store, monkeypatch):
    listed = index_module.list_images(folder)
    monkeypatch.setattr(index_module, "list_images", lambda *_: listed)
    listed[0].unlink()
    found = open_index(folder, model, store)
    assert found.names == tuple(NAMES[1:])
    assert "cannot be opened (No such file or directory)" in found.left_out["1.jpg"]


def test_a_folder_in_which_nothing_opens_is_an_error_until_something_does(folder, model, store):
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    stamps = {path: path.stat() for path in whole}
    for path, data in whole.items():
        path.write_bytes(bytes(len(data)))
        os.utime(path, ns=(0, stamps[path].st_mtime_ns))
    for _ in range(2):
        with pytest.raises(InputError, match=r"not one of 5 pictures opens; first: .*\d.*\.jpg"):
            open_index(folder, model, store)
    for path, data in whole.items():
        path.write_bytes(data)
        os.utime(path, ns=(0, stamps[path].st_mtime_ns))
    assert len(open_index(folder, model, store)) == 5


def test_folders_that_cannot_be_searched_are_errors(tmp_path, model, store):
    with pytest.raises(InputError, match="no such folder"):
        open_index(tmp_path / "none", model, store)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        open_index(tmp_path / "empty", model, store)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: cannot be made a folder .* choose another --store"):
        open_index(write_folder(tmp_path / "some", {"1.jpg": None}), model, tmp_path / "file")


@pytest.mark.parametrize("size", [(1, 1), (20_000, 200), (3, 900)])
def test_pictures_of_any_form_are_indexed(tmp_path, model, store, size):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "1.png").write_bytes(encode_jpeg(draw_picture(1, size=size)))
    found = open_index(tmp_path / "odd", model, store)
    assert found.sizes.tolist() == [list(size)]
    assert torch.isfinite(found.levels(0).cells).all()


# Interruptions, damage, and other processes


@pytest.mark.parametrize("how", [KeyboardInterrupt, OSError(28, "No space left on device")], ids=["Ctrl-C", "full"])
def test_an_index_that_was_cut_off_goes_on(tmp_path, model, store, read, monkeypatch, how):
    names = [f"{number:02d}.jpg" for number in range(9)]
    folder = write_folder(tmp_path / "many", dict.fromkeys(names))
    (folder / "02.jpg").write_bytes(b"")
    made = index_module.picture_cells

    def cut_off(*arguments):
        if read[-1] == "06.jpg":
            raise how
        return made(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(index_module, "picture_cells", cut_off)
        with pytest.raises(type(how) if isinstance(how, Exception) else how):
            open_index(folder, model, store)
    assert not (store / "index.json").exists()
    read.clear()
    found = open_index(folder, model, store)
    assert read == names[6:], "the projection and six pictures had been done"
    assert same(found, open_index(folder, model, tmp_path / "fresh"))
    assert files_in(store) == FILES


def test_what_was_written_behind_the_last_note_is_cut_off(tmp_path, model, store, monkeypatch):
    folder = write_folder(tmp_path / "some", dict.fromkeys(NAMES))

    def cut_off(growing):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(index_module.Growing, "finish", cut_off)
        with pytest.raises(KeyboardInterrupt):
            open_index(folder, model, store)
    with open(store / ".cells.unfinished", "ab") as file:
        file.write(b"half a picture")
    assert same(open_index(folder, model, store), open_index(folder, model, tmp_path / "fresh"))


@pytest.mark.parametrize("damage", ["no cells", "short cells", "no projection", "no JSON", "other JSON"])
def test_a_damaged_index_is_made_again_and_that_is_said(folder, model, store, capsys, damage):
    first = open_index(folder, model, store)
    if damage == "no cells":
        next(store.glob("cells-*.i8")).unlink()
    elif damage == "no projection":
        next(store.glob("projection-*.npz")).unlink()
    elif damage == "short cells":
        path = next(store.glob("cells-*.i8"))
        path.write_bytes(path.read_bytes()[:300])
    else:
        note = json.loads((store / "index.json").read_text())
        del note["images"]
        (store / "index.json").write_text("{" if damage == "no JSON" else json.dumps(note))
    cells = as_vectors(first.cells) if "cells" not in damage else None
    found = open_index(folder, model, store)
    assert "the index there cannot be used" in capsys.readouterr().out
    assert cells is None or np.array_equal(as_vectors(found.cells), cells)
    assert found.grids == first.grids and files_in(store) == FILES


def test_a_disk_without_room_is_named_before_the_work_begins(folder, model, store, monkeypatch):
    monkeypatch.setattr("segswap.search.growing.shutil.disk_usage", lambda _: type("", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"needs 1 MB, the disk has 0 MB free; make room, or choose another"):
        open_index(folder, model, store)


def test_an_index_that_another_process_makes_is_an_error(folder, model, store):
    store.mkdir()
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(store / "index.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        with pytest.raises(InputError, match=r"the index in .*store: .* is still at work on it"):
            open_index(folder, model, store)
    finally:
        other.communicate(b"\n")
    assert len(open_index(folder, model, store)) == 5


def test_an_index_that_another_process_has_finished_meanwhile_is_used(folder, model, store, read, monkeypatch):
    def late(path, what):
        monkeypatch.setattr(index_module, "claim", claim)
        open_index(folder, model, store)
        read.clear()
        return claim(path, what)

    monkeypatch.setattr(index_module, "claim", late)
    assert len(open_index(folder, model, store)) == 5
    assert read == []


# Users without a home


def test_a_user_without_a_home_folder_is_told_of_the_store(folder, model, store, monkeypatch):
    def no_name(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_name)
    with pytest.raises(InputError, match=r"no home folder .* --store"):
        open_index(folder, model)
    projection = open_index(folder, model, store).projection
    assert len(open_index(folder, model, projection=projection, cache=store / "negatives")) == 5


def test_a_home_folder_that_cannot_be_written_to_is_an_error_that_says_store(folder, model, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/nothing")
    with pytest.raises(InputError, match=r"cannot be made a folder .* choose another --store"):
        open_index(folder, model)


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "🎨" * 63, os.fsdecode(b"m\xfcller")])
def test_folders_of_any_name_have_a_place_in_the_cache(tmp_path, model, monkeypatch, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    open_index(write_folder(tmp_path / name, {"1.jpg": None}), model)
    assert len(list((tmp_path / "cache" / "segswap").iterdir())) == 1
