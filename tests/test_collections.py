"""Collections: their images, the pairs worth matching, and the pairs that are kept."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from segswap.discovery.candidates import (
    all_pairs,
    candidate_pairs,
    read_pairs,
    window_descriptors,
    window_slices,
    write_pairs,
)
from segswap.discovery.collection import open_folder, read_collection
from segswap.discovery.matching import match_collection, mirrored_back
from segswap.discovery.predictions import MatchSettings, PairPredictions, read_pair_predictions
from segswap.errors import InputError
from segswap.sampling import cell_centres

CPU = torch.device("cpu")
SETTINGS = MatchSettings(flip=False, min_share=0.01, protocol="corrected")
PAIR_CASES = ["sq30", "ns30x40", "sq12", "ns8x12", "rand12x9"]


# Images


@pytest.fixture
def folder(tmp_path):
    """Four different pictures, a second copy of one under another name, and a file that is none."""
    rng = np.random.default_rng(1)
    root = tmp_path / "pictures"
    root.mkdir()
    for name in ("b, 1.jpg", "a.jpg", "c.png", "d.jpg"):
        picture = rng.integers(0, 256, (20, 30, 3), np.uint8)
        cv2.imwrite(str(root / name), picture)
    picture = cv2.imread(str(root / "c.png"))
    cv2.imwrite(str(root / "e.bmp"), picture)
    (root / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (root / "notes.txt").write_text("no picture")
    return root


def test_a_folder_is_listed_without_copies_and_broken_files_which_are_named(folder, capsys):
    found = open_folder(folder)
    assert found.images == ("a.jpg", "b, 1.jpg", "c.png", "d.jpg")
    assert set(found.left_out) == {"broken.jpg", "e.bmp"}
    said = capsys.readouterr().out
    assert "e.bmp: left out, the same picture as c.png" in said
    assert "broken.jpg: left out, does not open" in said


@pytest.mark.parametrize(("kept", "said"), [(2, "2 images (2 left out)"), (1, "1 image (1 left out)")])
def test_fewer_than_three_images_are_an_error(folder, kept, said):
    removed = {2: ("a.jpg", "b, 1.jpg"), 1: ("a.jpg", "b, 1.jpg", "c.png", "d.jpg")}[kept]
    for name in removed:
        (folder / name).unlink()
    with pytest.raises(InputError) as caught:
        open_folder(folder)
    assert f"{folder}: {said}; discovery compares at least three" in str(caught.value)


def test_a_folder_that_is_missing_or_holds_no_picture_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_folder(tmp_path / "gone")
    with pytest.raises(InputError, match="holds no picture"):
        open_folder(tmp_path)


def test_a_collection_comes_back_from_disk(folder, tmp_path):
    found = open_folder(folder)
    found.write(tmp_path / "images.json")
    assert read_collection(tmp_path / "images.json") == found
    (tmp_path / "images.json").write_text('{"images": 3}')
    with pytest.raises(InputError, match=r"images\.json: not a list of a collection's images"):
        read_collection(tmp_path / "images.json")


def test_mirror_images_follow_the_plain_ones(folder):
    found = open_folder(folder)
    assert found.feature_names() == list(found.images)
    names, loaders = found.feature_names(mirrored=True), found.loaders(mirrored=True)
    assert len(names) == len(set(names)) == len(loaders) == 8
    np.testing.assert_array_equal(loaders[5](), loaders[1]()[:, ::-1])
    np.testing.assert_array_equal(loaders[2](), found.read(2))


# Pairs worth matching


def test_all_pairs():
    assert all_pairs(3).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert all_pairs(1).shape == all_pairs(0).shape == (0, 2)


@given(st.integers(1, 40), st.integers(1, 10))
def test_windows_cover_every_cell_and_are_never_empty(cells, windows):
    found = window_slices(cells, windows)
    assert len(found) == windows
    assert all(0 <= window.start < cells and window.start < window.stop for window in found)
    assert {cell for window in found for cell in range(window.start, min(window.stop, cells))} == set(range(cells))


def test_images_that_share_a_small_part_are_candidates():
    generator = torch.Generator().manual_seed(1)
    features = nn.functional.normalize(torch.randn(8, 16, 12, 12, generator=generator), dim=1)
    part = features[0, :, 2:6, 2:6].clone()
    features[5, :, 6:10, 4:8] = part
    store = MeasuredStore(features.numpy())
    descriptors = window_descriptors(store, 8, windows=5)
    assert descriptors.shape == (8, 25, 16)
    np.testing.assert_allclose(descriptors.norm(dim=2), 1, rtol=1e-5)
    assert [0, 5] in candidate_pairs(descriptors, 1).tolist()


@pytest.mark.parametrize("at_once", [1, 1 << 25])
def test_candidates_are_the_most_alike_images_of_either(monkeypatch, at_once):
    monkeypatch.setattr("segswap.discovery.candidates._SIMILARITIES_AT_ONCE", at_once)
    descriptors = nn.functional.normalize(torch.randn(9, 4, 6, generator=torch.Generator().manual_seed(2)), dim=2)
    alike = torch.einsum("awc,bvc->abwv", descriptors, descriptors).amax((2, 3))
    expected = set()
    for image in range(9):
        order = [other for other in alike[image].argsort(descending=True).tolist() if other != image]
        expected |= {(min(image, other), max(image, other)) for other in order[:3]}
    assert candidate_pairs(descriptors, 3).tolist() == [list(pair) for pair in sorted(expected)]
    assert candidate_pairs(descriptors, 100).tolist() == all_pairs(9).tolist()


def test_pairs_come_back_from_disk(tmp_path):
    write_pairs(tmp_path / "pairs.npz", all_pairs(4))
    np.testing.assert_array_equal(read_pairs(tmp_path / "pairs.npz"), all_pairs(4))


# Pairs that are kept


class MeasuredStore:
    """Stands in for a feature store: measured features by position."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = torch.from_numpy(features)
        self.shape = features.shape[2:]

    def read(self, places) -> torch.Tensor:
        return self.features[torch.as_tensor(np.asarray(places, int))]


class MeasuredMatcher(nn.Module):
    """Stands in for a matcher: measured outputs, all pairs of a class in order in one batch."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        super().__init__()
        self.outputs = torch.from_numpy(first), torch.from_numpy(second)

    def forward(self, x, y):
        assert len(x) == len(self.outputs[0])
        return self.outputs


@pytest.mark.parametrize("case", PAIR_CASES)
def test_kept_pairs_and_their_scores_equal_the_measured_ones(shared, case):
    with np.load(shared / "golden" / "c_compute_pair.npz", allow_pickle=False) as file:
        of = {n.removeprefix(f"{case}__"): file[n] for n in file.files if n.startswith(f"{case}__")}
    n = len(of["feat"])
    matcher = MeasuredMatcher(of["output1"], of["output2"])
    settings = MatchSettings(flip=False, min_share=0.01, protocol="published")
    found = match_collection(MeasuredStore(of["feat"]), n, all_pairs(n), matcher, settings, CPU)
    np.testing.assert_array_equal(found.pairs, of["pair_idx"][of["kept_pair"]])
    np.testing.assert_allclose(found.scores, of["kept_score"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.maps_1, of["output1"][of["kept_pair"]], atol=1e-3)


@pytest.mark.parametrize(("way_back", "kept"), [("to the same place", 3), ("to where nothing is", 0)])
def test_a_pair_is_kept_only_if_both_directions_find_something(way_back, kept):
    features = nn.functional.normalize(torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(1)), dim=1)
    centres = cell_centres(6, 6)[None]
    left = torch.zeros(1, 1, 6, 6)
    left[..., :3] = 1
    there = torch.cat([centres, left], dim=1).expand(3, -1, -1, -1)
    position = centres if way_back == "to the same place" else torch.full_like(centres, 0.9)
    back = torch.cat([position, torch.ones(1, 1, 6, 6)], dim=1).expand(3, -1, -1, -1)
    store = MeasuredStore(features.expand(3, -1, -1, -1).numpy())
    matcher = MeasuredMatcher(there.numpy(), back.numpy())
    found = match_collection(store, 3, all_pairs(3), matcher, SETTINGS, CPU)
    assert len(found.pairs) == kept


class Mirrors(nn.Module):
    """A matcher that finds y's mirror image only: sure of it when features agree cell by cell, else unsure."""

    def forward(self, x, y):
        same = (x * y).sum(1).mean((1, 2))[:, None, None, None]
        centres = cell_centres(*x.shape[-2:])[None].expand(len(x), -1, -1, -1)
        maps = torch.cat([centres, same.clamp(0.1, 1).expand(-1, 1, *x.shape[-2:])], dim=1)
        return maps, maps.clone()


def test_the_mirrored_try_is_taken_where_it_finds_more_and_is_mapped_back():
    generator = torch.Generator().manual_seed(1)
    features = nn.functional.normalize(torch.randn(1, 8, 6, 6, generator=generator), dim=1)
    other = nn.functional.normalize(torch.randn(1, 8, 6, 6, generator=generator), dim=1)
    # Image 1 is the mirror image of image 0; image 2 is something else.
    plain = torch.cat([features, features.flip(3), other])
    store = MeasuredStore(torch.cat([plain, plain.flip(3)]).numpy())
    settings = dataclasses.replace(SETTINGS, flip=True)
    found = match_collection(store, 3, all_pairs(3), Mirrors(), settings, CPU)
    row = found.pairs.tolist().index([0, 1])
    centres = cell_centres(6, 6).numpy()
    mirrored = np.stack([1 - centres[0], centres[1]])
    np.testing.assert_allclose(found.maps_1[row, :2], mirrored, atol=1e-3)
    np.testing.assert_allclose(found.maps_2[row, :2], mirrored, atol=1e-3, err_msg="both ways are mirrored")
    np.testing.assert_allclose(found.scores[row], 36, rtol=1e-3)


def test_the_published_flip_equals_the_measured_one(shared):
    with np.load(shared / "golden" / "c_compute_pair.npz", allow_pickle=False) as file:
        of = {name.removeprefix("flip__"): torch.from_numpy(file[name]) for name in file.files if "flip__" in name}
    maps = mirrored_back(of["o1_flip"], of["o2_flip"], "published")
    for flipped, plain, expected in zip(maps, (of["o1"], of["o2"]), (of["o1_update"], of["o2_update"]), strict=True):
        found = torch.where(of["isFlip"][:, None, None, None], flipped, plain)
        np.testing.assert_array_equal(found, expected)
    better = of["o1_flip"][:, 2].sum((1, 2)) > of["o1"][:, 2].sum((1, 2))
    np.testing.assert_array_equal(better, of["isFlip"])


def some_predictions(pairs: list[list[int]], cells: int = 3) -> PairPredictions:
    maps = np.full((len(pairs), 3, cells, cells), 0.5, np.float16)
    return PairPredictions(np.array(pairs, np.int64).reshape(-1, 2), maps, maps, np.ones((len(pairs), 2)))


def test_chunks_of_predictions_come_back_as_one_also_empty_ones(tmp_path):
    for number, pairs in enumerate(([[0, 1], [0, 2]], [], [[1, 2]])):
        some_predictions(pairs).write(tmp_path / f"{number}.npz")
    found = read_pair_predictions([tmp_path / f"{number}.npz" for number in range(3)])
    assert found.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert found.maps_1.shape == found.maps_2.shape == (3, 3, 3, 3) and found.maps_1.dtype == np.float16
    (tmp_path / "1.npz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"1\.npz: not readable as pair predictions"):
        read_pair_predictions([tmp_path / "0.npz", tmp_path / "1.npz"])
    some_predictions([[1, 2]], cells=4).write(tmp_path / "1.npz")
    with pytest.raises(InputError, match=r"1\.npz: maps of \(4, 4\) cells, those of .*0\.npz have \(3, 3\)"):
        read_pair_predictions([tmp_path / "0.npz", tmp_path / "1.npz"])


def test_a_chunk_without_pairs_gives_predictions_of_no_pair():
    store = MeasuredStore(np.zeros((3, 8, 6, 5), np.float32))
    found = match_collection(store, 3, all_pairs(0), Mirrors(), SETTINGS, CPU)
    assert found.pairs.shape == (0, 2) and found.maps_1.shape == (0, 3, 6, 5) and found.scores.shape == (0, 2)
