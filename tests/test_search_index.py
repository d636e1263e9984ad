"""The index of a folder: made once, only what changed is made again, and what cannot be used is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from search_folders import SIDE, draw_picture, make_model, write_folder

from segswap.errors import InputError
from segswap.files import claim
from segswap.images import encode_jpeg, read_image
from segswap.search import index as index_module
from segswap.search.index import open_index
from segswap.search.prefilter import WINDOWS, window_descriptors

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
    """Return whether two indexes hold the same: all but the last bits, as batches differ."""
    return (
        a.names == b.names
        and np.array_equal(a.sizes, b.sizes)
        and np.allclose(a.features.read(range(len(a))), b.features.read(range(len(b))), atol=2e-3)
        and np.allclose(a.descriptors, b.descriptors, atol=4e-3)
    )


def arrays_in(store) -> list[str]:
    return sorted(path.name.split("-")[0] for path in store.iterdir())


def test_pictures_features_and_descriptors_are_those_of_the_folder(folder, model, store):
    found = open_index(folder, model, SIDE, store)
    assert found.names == tuple(NAMES) and len(found) == 5 and found.left_out == {}
    assert found.sizes.tolist() == [[120, 100]] * 5
    np.testing.assert_array_equal(found.read(2), read_image(folder / NAMES[2]))
    assert found.features.names == NAMES and tuple(found.features.shape) == (6, 6)
    assert found.descriptors.shape == (5, WINDOWS**2, 16) and found.descriptors.dtype == np.float16
    expected = window_descriptors(found.features.read([3]), WINDOWS, WINDOWS)[0]
    np.testing.assert_allclose(found.descriptors[3], expected, atol=1e-3)


def test_it_is_made_once(folder, model, store, read, capsys):
    first = open_index(folder, model, SIDE, store)
    assert sorted(read) == NAMES
    read.clear()
    before = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    assert same(open_index(folder, model, SIDE, store), first)
    assert read == [] and {path: path.stat().st_mtime_ns for path in store.iterdir()} == before
    assert f"5 pictures, 0.0 MB in {store}" in capsys.readouterr().out


def test_only_new_and_changed_pictures_are_read(folder, model, store, read, tmp_path):
    old = open_index(folder, model, SIDE, store)
    features = old.features.read([3])
    (folder / "0 new.jpg").write_bytes(encode_jpeg(draw_picture(77)))
    (folder / "2.jpg").write_bytes(encode_jpeg(draw_picture(78, size=(64, 200))))
    (folder / "5.jpg").unlink()
    read.clear()
    found = open_index(folder, model, SIDE, store)
    assert sorted(read) == ["0 new.jpg", "2.jpg"]
    assert found.names == ("0 new.jpg", *NAMES[:4]) and found.sizes[2].tolist() == [64, 200]
    assert same(found, open_index(folder, model, SIDE, tmp_path / "fresh"))
    assert arrays_in(store) == ["descriptors", "features", "features", "index.json", "index.lock"]
    assert np.array_equal(old.features.read([3]), features), "who has the old one open goes on with it"


def test_subfolders_are_looked_into_where_that_is_asked_for(folder, model, store, read):
    write_folder(folder / "more" / "still", {"1.jpg": None, "6.jpg": None})
    plain = open_index(folder, model, SIDE, store)
    assert list(plain.names) == NAMES
    read.clear()
    deep = open_index(folder, model, SIDE, store, subfolders=True)
    assert sorted(deep.names) == sorted([*NAMES, "more/still/1.jpg", "more/still/6.jpg"])
    assert sorted(read) == ["1.jpg", "6.jpg"], "only what is new is read"
    assert np.array_equal(deep.read(deep.names.index("more/still/1.jpg")), read_image(folder / "more/still/1.jpg"))


def test_the_place_is_in_the_cache_and_another_for_another_model_side_or_folder(
    folder, model, tmp_path, monkeypatch, read
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    other = write_folder(tmp_path / "other" / "pictures", {"1.jpg": None})
    for where, which, side in (
        (folder, model, SIDE), (folder, model, 64), (folder, make_model(1), SIDE), (other, model, SIDE)
    ):  # fmt: skip
        open_index(where, which, side)
    places = list((tmp_path / "cache" / "segswap").iterdir())
    assert len(places) == 4 and all(place.name.startswith("pictures-") for place in places)
    read.clear()
    monkeypatch.chdir(tmp_path)
    open_index("pictures", model, SIDE)
    assert read == [], "the same folder under another path"


@pytest.mark.parametrize("what", ["folder", "side", "backbone"])
def test_a_store_of_something_else_is_not_written_over(folder, model, store, tmp_path, what):
    open_index(folder, model, SIDE, store)
    other = {"folder": folder, "model": model, "side": SIDE}
    if what == "folder":
        other["folder"] = write_folder(tmp_path / "others", {"1.jpg": None})
    elif what == "side":
        other["side"] = 64
    else:
        other["model"] = make_model(1)
    with pytest.raises(InputError, match=f"holds an index with {what} .* choose another --store"):
        open_index(**other, store=store)
    assert len(open_index(folder, model, SIDE, store)) == 5


# Pictures that do not open


def test_unreadable_pictures_are_left_out_and_named(folder, model, store, read, capsys):
    whole = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(bytes(len(whole)))
    (folder / "4.jpg").write_bytes(b"")
    found = open_index(folder, model, SIDE, store)
    said = capsys.readouterr().out
    assert found.names == ("1.jpg", "3 & <b>.jpg", "5.jpg") == tuple(found.features.names)
    assert sorted(found.left_out) == ["2.jpg", "4.jpg"]
    assert "2 left out:" in said and "2.jpg: " in said and "do not decode as a picture" in said
    assert len(np.load(next(store.glob("features-*.npy")))) == 3
    np.testing.assert_allclose(
        found.descriptors[2], window_descriptors(found.features.read([2]), WINDOWS, WINDOWS)[0], atol=1e-3
    )
    read.clear()
    assert len(open_index(folder, model, SIDE, store)) == 3
    assert sorted(read) == ["2.jpg", "4.jpg"], "only whether they open by now"
    # It opens again, and neither its size nor its time tells.
    stamp = (folder / "2.jpg").stat()
    (folder / "2.jpg").write_bytes(whole)
    os.utime(folder / "2.jpg", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert open_index(folder, model, SIDE, store).names == ("1.jpg", "2.jpg", "3 & <b>.jpg", "5.jpg")


def test_a_picture_that_goes_while_the_folder_is_read_is_left_out(folder, model, store, monkeypatch):
    listed = index_module.list_images(folder)
    monkeypatch.setattr(index_module, "list_images", lambda *_: listed)
    listed[0].unlink()
    found = open_index(folder, model, SIDE, store)
    assert found.names == tuple(NAMES[1:])
    assert "cannot be opened (No such file or directory)" in found.left_out["1.jpg"]


def test_a_folder_in_which_nothing_opens_is_an_error_until_something_does(folder, model, store):
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    stamps = {path: path.stat() for path in whole}
    for path, data in whole.items():
        path.write_bytes(bytes(len(data)))
        os.utime(path, ns=(0, stamps[path].st_mtime_ns))
    for _ in range(2):
        with pytest.raises(InputError, match=r"not one of 5 images opens; first: .*1\.jpg"):
            open_index(folder, model, SIDE, store)
    for path, data in whole.items():
        path.write_bytes(data)
        os.utime(path, ns=(0, stamps[path].st_mtime_ns))
    assert len(open_index(folder, model, SIDE, store)) == 5


def test_folders_that_cannot_be_searched_are_errors(tmp_path, model, store):
    with pytest.raises(InputError, match="no such folder"):
        open_index(tmp_path / "none", model, SIDE, store)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        open_index(tmp_path / "empty", model, SIDE, store)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: cannot be made a folder .* choose another --store"):
        open_index(write_folder(tmp_path / "some", {"1.jpg": None}), model, SIDE, tmp_path / "file")


@pytest.mark.parametrize("size", [(1, 1), (20_000, 200), (3, 900)])
def test_pictures_of_any_form_are_indexed(tmp_path, model, store, size):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "1.png").write_bytes(encode_jpeg(draw_picture(1, size=size)))
    found = open_index(tmp_path / "odd", model, SIDE, store)
    assert found.sizes.tolist() == [list(size)]
    assert np.isfinite(found.descriptors).all()


# Interruptions, damage, and other processes


def test_an_index_that_was_cut_off_goes_on(tmp_path, model, store, read, monkeypatch):
    names = [f"{number:02d}.jpg" for number in range(20)]
    folder = write_folder(tmp_path / "many", dict.fromkeys(names))
    noted = index_module.read_image

    def cut_off(path):
        if path.name == "18.jpg":
            raise KeyboardInterrupt
        return noted(path)

    with monkeypatch.context() as patched:
        patched.setattr(index_module, "read_image", cut_off)
        with pytest.raises(KeyboardInterrupt):
            open_index(folder, model, SIDE, store)
    assert not (store / "index.json").exists()
    read.clear()
    found = open_index(folder, model, SIDE, store)
    assert read[:4] == names[16:], "one batch had been done"
    assert read[4:] == names[:16], "whose sizes are looked up"
    assert same(found, open_index(folder, model, SIDE, tmp_path / "fresh"))


@pytest.mark.parametrize("damage", ["no features", "short descriptors", "no JSON", "other JSON"])
def test_a_damaged_index_is_made_again_and_that_is_said(folder, model, store, capsys, damage):
    first = open_index(folder, model, SIDE, store)
    if damage == "no features":
        next(store.glob("features-*.npy")).unlink()
    elif damage == "short descriptors":
        path = next(store.glob("descriptors-*.npy"))
        path.write_bytes(path.read_bytes()[:300])
    else:
        note = json.loads((store / "index.json").read_text())
        del note["images"]
        (store / "index.json").write_text("{" if damage == "no JSON" else json.dumps(note))
    found = open_index(folder, model, SIDE, store)
    assert "the index there cannot be used" in capsys.readouterr().out
    if damage != "short descriptors":
        assert same(found, first)
    assert found.descriptors.shape == first.descriptors.shape
    assert arrays_in(store) == ["descriptors", "features", "features", "index.json", "index.lock"]


def test_an_index_that_another_process_makes_is_an_error(folder, model, store):
    store.mkdir()
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(store / "index.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        with pytest.raises(InputError, match=r"the index in .*store: .* is still at work on it"):
            open_index(folder, model, SIDE, store)
    finally:
        other.communicate(b"\n")
    assert len(open_index(folder, model, SIDE, store)) == 5


def test_an_index_that_another_process_has_finished_meanwhile_is_used(folder, model, store, read, monkeypatch):
    def late(path, what):
        monkeypatch.setattr(index_module, "claim", claim)
        open_index(folder, model, SIDE, store)
        read.clear()
        return claim(path, what)

    monkeypatch.setattr(index_module, "claim", late)
    assert len(open_index(folder, model, SIDE, store)) == 5
    assert read == []
