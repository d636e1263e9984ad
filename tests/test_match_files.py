"""The files of a matched pair: what they say, that they appear last things last, and what is not written over."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segswap.errors import InputError
from segswap.files import sha256
from segswap.geometry import cell_centres
from segswap.images import read_image
from segswap.matching.match import AS_GIVEN, Match, Turn, turns
from segswap.report import match_files
from segswap.report.match_files import MatchSettings, PictureFile, encode_mask, pair_key, read_done, write_match

SETTINGS = MatchSettings((96, 128), gif=True, page=True)
QUICK = MatchSettings((96, 128), page=True)
MODEL = {"checkpoint": "model.pt", "key": "0123"}


@pytest.fixture
def files(tmp_path: Path) -> tuple[PictureFile, PictureFile]:
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 255, (192, 256, 3), np.uint8))
    return tuple(PictureFile(tmp_path / name, sha256(tmp_path / name)) for name in ("a.png", "b.png"))


def match(cells: int = 8) -> Match:
    """Return a match of pictures that share a square of ``cells`` x ``cells``, at one place."""
    mask = np.zeros((6, 8), np.float32)
    mask[:cells, :cells] = 0.75
    centres = cell_centres((6, 8)).astype(np.float32)
    return Match(3.0, (2.0, 4.0), Turn(180), (mask, mask.copy()), (centres, centres.copy()))


def written(folder: Path, files, found: Match, settings: MatchSettings = SETTINGS, key: str = "key") -> dict:
    content, _ = write_match(folder, files, tuple(read_image(f.path) for f in files), found, settings, MODEL, key)
    return content


def test_the_folder_holds_numbers_masks_and_correspondences_in_pixels(tmp_path, files):
    content = written(tmp_path / "out", files, match(4))
    assert json.loads((tmp_path / "out/match.json").read_text()) == content
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(match_files.FILES)
    assert content["files"] == ["match.jpg", "match.gif", "index.html"]
    numbers = {"score": 3, "score_first": 2, "score_second": 4, "share_first": 1 / 3, "rotation": 180}
    assert {name: content[name] for name in numbers} == pytest.approx(numbers)
    assert content["first"]["matched_at"] == [128, 96] and content["first"]["sha256"] == files[0].digest
    mask = coco_mask.decode(content["second"]["mask"])
    assert mask.shape == (192, 256) and mask[60, 60] and not mask[150, 60] and not mask[60, 150]
    assert len(content["correspondences"]) == 32
    assert content["correspondences"][0] == [16, 16, 16, 16, 0.75]
    matrix = np.array(content["alignment"]["matrix"])
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=0.01)


@pytest.mark.parametrize("size", [(256, 192), (1000, 30), (3, 2)])
def test_a_mask_is_interpolated_to_the_pictures_pixels(size):
    mask = np.zeros((4, 8), np.float32)
    mask[:, :4] = 1
    decoded = coco_mask.decode(encode_mask(mask, size))
    assert decoded.shape == size[::-1]
    assert decoded.mean() == pytest.approx(0.5, abs=0.5 / size[0] + 1e-6)
    assert decoded[:, 0].all() and not decoded[:, -1].any()


def test_without_an_alignment_there_is_no_animation_and_an_earlier_one_goes(tmp_path, files):
    written(tmp_path / "out", files, match())
    content = written(tmp_path / "out", files, match(1))
    assert content["files"] == ["match.jpg", "index.html"] and content["alignment"]["matrix"] is None
    assert not (tmp_path / "out/match.gif").exists()
    assert written(tmp_path / "out", files, match(), MatchSettings((96, 128)))["files"] == ["match.jpg"]
    assert not (tmp_path / "out/index.html").exists()


def test_done_is_what_has_the_key_and_all_files(tmp_path, files):
    folder = tmp_path / "out"
    assert read_done(folder, "key") is None
    content = written(folder, files, match(), QUICK)
    assert read_done(folder, "key") == content and read_done(folder, "other") is None
    (folder / "index.html").unlink()
    assert read_done(folder, "key") is None
    written(folder, files, match(), QUICK)
    for damaged in ("", "{", "[]", "{}"):
        (folder / "match.json").write_text(damaged)
        assert read_done(folder, "key") is None


@pytest.mark.parametrize("step", ["write_picture", "match_gif", "write_match_page", "write_json"])
def test_whatever_fails_leaves_nothing_that_looks_done(tmp_path, files, monkeypatch, step):
    """An earlier match.json, with other settings, must not vouch for files of this run."""
    written(tmp_path / "out", files, match(), QUICK)

    def fail(*_, **__):
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(match_files, step, fail)
        with pytest.raises(OSError, match="killed"):
            written(tmp_path / "out", files, match(), SETTINGS if step == "match_gif" else QUICK)
    assert not (tmp_path / "out/match.json").exists()
    assert written(tmp_path / "out", files, match(), QUICK)["files"] == ["match.jpg", "index.html"]


def test_the_key_knows_content_model_and_settings(files):
    a, b = files
    keys = [
        pair_key(a, b, "m", SETTINGS),
        pair_key(b, a, "m", SETTINGS),
        pair_key(a, a, "m", SETTINGS),
        pair_key(a, b, "n", SETTINGS),
        pair_key(a, b, "m", MatchSettings((96, 128), gif=True)),
        pair_key(a, b, "m", MatchSettings((96, 144), gif=True, page=True)),
        pair_key(a, b, "m", MatchSettings((96, 128), turns(flips=True), gif=True, page=True)),
    ]
    assert len(set(keys)) == len(keys)
    moved = PictureFile(Path("elsewhere.png"), a.digest)
    same = MatchSettings((96, 128), (AS_GIVEN,), 24, True, True)
    assert pair_key(moved, b, "m", same) == keys[0]


def test_files_that_are_not_of_a_match_are_not_written_over(tmp_path, files):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "index.html").write_text("my page")
    with pytest.raises(InputError, match=r"index\.html: is not of a match and would be written over"):
        written(folder, files, match())
    assert (folder / "index.html").read_text() == "my page"
    own = tmp_path / "match.jpg"
    own.write_bytes(files[0].path.read_bytes())
    with pytest.raises(InputError, match=r"match\.jpg: would be written over"):
        written(tmp_path, (PictureFile(own, files[0].digest), files[1]), match())
    assert own.exists()
    with pytest.raises(InputError, match="cannot be made a folder"):
        written(own / "out", files, match())
