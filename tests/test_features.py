"""The feature store: what was written comes back, and what does not belong together is an error that says so."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch

from segswap.errors import InputError
from segswap.images import UnreadableImage, read_image, resize
from segswap.matching import features
from segswap.matching.features import FeatureStore, backbone_key, extract_features, images_to_tensor
from segswap.matching.predict import load_matcher, predict_pairs
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import save_checkpoint
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings

NAMES = ["b.jpg", "a.jpg", "it's & a.b.jpg", "d.jpg", "e.jpg"]
SIZE = (64, 48)


def picture(seed: int, height: int = 50, width: int = 70) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def make_trunk(seed: int = 1, **settings) -> ResNet:
    torch.manual_seed(seed)
    return ResNet(ResNetSettings("resnet10", width=8, **settings)).freeze()


@pytest.fixture(scope="module")
def trunk() -> ResNet:
    return make_trunk()


@pytest.fixture
def store(tmp_path, trunk):
    path = tmp_path / "deep" / "features.npy"
    loaders = [lambda n=n: picture(n) for n in range(len(NAMES))]
    extract_features(NAMES, loaders, trunk, SIZE, path, batch=2)
    return path


def test_features_come_back_by_name_and_position(store, trunk):
    opened = FeatureStore(store, trunk, NAMES)
    assert (len(opened), opened.channels, tuple(opened.shape)) == (5, trunk.channels, (3, 4))
    for place, name in enumerate(NAMES):
        assert opened.place(name) == place
        expected = trunk(images_to_tensor([resize(picture(place), SIZE)]))
        torch.testing.assert_close(opened.read([place]), expected, atol=1e-3, rtol=0)
    both = opened.read(np.array([3, 0, 3]))
    assert both.dtype == torch.float32
    assert torch.equal(both[0], both[2]) and torch.equal(both[1:2], opened.read([0]))


def test_the_store_is_half_precision_and_only_two_files(store, trunk):
    array = np.load(store, mmap_mode="r", allow_pickle=False)
    assert array.dtype == np.float16 and array.shape == (5, 3, 4, trunk.channels)
    assert sorted(path.name for path in store.parent.iterdir()) == ["features.json", "features.npy"]
    header = json.loads(store.with_suffix(".json").read_text())
    assert header.pop("preprocessing").startswith("squashed to size")
    assert header == {"names": NAMES, "size": [64, 48], "channels": trunk.channels, "backbone": backbone_key(trunk)}


def test_the_batch_size_does_not_change_the_features(store, trunk, tmp_path):
    loaders = [lambda n=n: picture(n) for n in range(len(NAMES))]
    extract_features(NAMES, loaders, trunk, SIZE, tmp_path / "one.npy", batch=1)
    np.testing.assert_allclose(np.load(tmp_path / "one.npy"), np.load(store), atol=1e-3)


def test_another_order_or_another_list_is_an_error_that_names_the_first_difference(store, trunk):
    swapped = [NAMES[0], NAMES[2], NAMES[1], *NAMES[3:]]
    with pytest.raises(InputError, match=r"first difference at 1: expected \"it's & a\.b\.jpg\", found 'a\.jpg'"):
        FeatureStore(store, trunk, swapped)
    with pytest.raises(InputError, match=r"first difference at 4: expected None, found 'e\.jpg'"):
        FeatureStore(store, trunk, NAMES[:4])
    with pytest.raises(InputError, match=r"first difference at 5: expected 'f\.jpg', found None"):
        FeatureStore(store, trunk, [*NAMES, "f.jpg"])


def test_another_backbone_is_an_error(store, trunk):
    FeatureStore(store, make_trunk())
    for other in (make_trunk(seed=2), make_trunk(projection=8)):
        with pytest.raises(InputError, match="another backbone; delete the store"):
            FeatureStore(store, other)


def test_another_preprocessing_is_an_error(store, trunk):
    header = json.loads(store.with_suffix(".json").read_text())
    store.with_suffix(".json").write_text(json.dumps({**header, "preprocessing": "none"}))
    with pytest.raises(InputError, match=r"features\.npy: features of images prepared in another way"):
        FeatureStore(store, trunk)


def test_the_backbone_s_key_covers_the_batch_norm_statistics(trunk):
    other = make_trunk()
    assert backbone_key(other) == backbone_key(trunk)
    other.bn1.running_mean[0] += 1
    assert backbone_key(other) != backbone_key(trunk)


def test_names_that_do_not_agree_with_the_array_are_an_error(store, trunk):
    header = json.loads(store.with_suffix(".json").read_text())
    store.with_suffix(".json").write_text(json.dumps({**header, "names": NAMES[:3]}))
    with pytest.raises(InputError, match="5 features, 3 names"):
        FeatureStore(store, trunk)


@pytest.mark.parametrize("damage", ["no array", "cut short", "no header", "objects"])
def test_damaged_stores_are_errors_that_name_the_file(store, trunk, damage):
    if damage == "no array":
        store.unlink()
    elif damage == "cut short":
        store.write_bytes(store.read_bytes()[:200])
    elif damage == "objects":
        np.save(store, np.array([{}], dtype=object), allow_pickle=True)
    else:
        store.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"features\.(npy|json)"):
        FeatureStore(store, trunk)


def test_repeated_names_are_an_error(tmp_path, trunk):
    with pytest.raises(InputError, match=r"image 'a\.jpg' is listed more than once"):
        extract_features(["a.jpg", "b.jpg", "a.jpg"], [lambda: picture(1)] * 3, trunk, SIZE, tmp_path / "f.npy")


def test_a_disk_without_room_is_an_error_before_any_work(tmp_path, trunk, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 100))

    def unused() -> np.ndarray:
        raise AssertionError("an image was read")

    with pytest.raises(InputError, match=r"f\.npy: needs .* GB, the disk has .* GB free; make room"):
        extract_features(["a.jpg"], [unused], trunk, SIZE, tmp_path / "f.npy")
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_image_leaves_no_store_behind(tmp_path, trunk):
    loaders = [lambda: picture(1), lambda: read_image(tmp_path / "gone.jpg")]
    with pytest.raises(UnreadableImage, match=r"gone\.jpg"):
        extract_features(["a.jpg", "gone.jpg"], loaders, trunk, SIZE, tmp_path / "f.npy", batch=1)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


# Going on


def names_read(count: int, fails_at: int | None = None) -> tuple[list[int], list]:
    """Return a list that fills with the numbers of the images that are read, and their loaders."""
    read: list[int] = []

    def load(number: int) -> np.ndarray:
        if number == fails_at:
            raise KeyboardInterrupt
        read.append(number)
        return picture(number)

    return read, [lambda n=n: load(n) for n in range(count)]


def test_an_extraction_that_was_cut_off_goes_on_and_gives_the_same_store(tmp_path, trunk, capsys):
    names = [f"{n}.jpg" for n in range(9)]
    extract_features(names, names_read(9)[1], trunk, SIZE, tmp_path / "through.npy", batch=2)
    read, loaders = names_read(9, fails_at=5)
    with pytest.raises(KeyboardInterrupt):
        extract_features(names, loaders, trunk, SIZE, tmp_path / "f.npy", batch=2)
    assert read == [0, 1, 2, 3, 4] and not (tmp_path / "f.npy").exists()
    read, loaders = names_read(9)
    extract_features(names, loaders, trunk, SIZE, tmp_path / "f.npy", batch=2)
    assert read == [4, 5, 6, 7, 8], "whole batches are kept"
    assert "going on after 4 images" in capsys.readouterr().out
    assert (tmp_path / "f.npy").read_bytes() == (tmp_path / "through.npy").read_bytes()
    assert (tmp_path / "f.json").read_bytes() == (tmp_path / "through.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.json", "f.npy", "through.json", "through.npy"]


def test_an_extraction_whose_snakemake_has_ended_leaves_its_work_to_the_next(tmp_path, trunk, monkeypatch):
    names = ["0.jpg", "1.jpg"]
    with monkeypatch.context() as orphan:
        orphan.setattr("segswap.starter._STARTER", 0)
        with pytest.raises(InputError, match="has ended"):
            extract_features(names, names_read(2)[1], trunk, SIZE, tmp_path / "f.npy")
    assert not (tmp_path / "f.npy").exists()
    read, loaders = names_read(2)
    extract_features(names, loaders, trunk, SIZE, tmp_path / "f.npy")
    assert read == [] and sorted(path.name for path in tmp_path.iterdir()) == ["f.json", "f.npy"]


@pytest.mark.parametrize("change", ["names", "size", "weights"])
def test_what_was_done_for_another_store_is_not_taken_up(tmp_path, trunk, change):
    names = [f"{n}.jpg" for n in range(4)]
    with pytest.raises(KeyboardInterrupt):
        extract_features(names, names_read(4, fails_at=3)[1], trunk, SIZE, tmp_path / "f.npy", batch=1)
    other = {"names": names, "size": SIZE, "weights": trunk}
    other[change] = {"names": ["x.jpg", *names[1:]], "size": (96, 48), "weights": make_trunk(2)}[change]
    read, loaders = names_read(4)
    extract_features(other["names"], loaders, other["weights"], other["size"], tmp_path / "f.npy", batch=1)
    assert read == [0, 1, 2, 3]


def test_progress_is_noted_now_and_then_for_a_run_that_is_killed(tmp_path, trunk, monkeypatch):
    monkeypatch.setattr(features, "_SAVE_SECONDS", 0.0)
    notes = []

    def load() -> np.ndarray:
        found = list(tmp_path.glob(".*.json"))
        notes.append(json.loads(found[0].read_text())["done"] if found else 0)
        return picture(1)

    extract_features([f"{n}.jpg" for n in range(4)], [load] * 4, trunk, SIZE, tmp_path / "f.npy", batch=1)
    assert notes == [0, 1, 2, 3]


# Predictions from stores


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_predicted_pairs_come_in_order_and_do_not_depend_on_the_batch(store, trunk, batch):
    opened = FeatureStore(store, trunk)
    torch.manual_seed(2)
    matcher = Transformer(TransformerSettings("tiny", trunk.channels)).eval()
    pairs = np.array([[0, 1], [2, 0], [4, 4], [1, 3], [3, 2]])
    found = list(predict_pairs(matcher, opened, opened, pairs, torch.device("cpu"), batch))
    assert np.concatenate([part.rows for part in found]).tolist() == [0, 1, 2, 3, 4]
    maps_x, maps_y = (torch.cat([getattr(part, name) for part in found]) for name in ("maps_x", "maps_y"))
    with torch.no_grad():
        for row, (first, second) in enumerate(pairs):
            x, y = matcher(opened.read([first]), opened.read([second]))
            torch.testing.assert_close(maps_x[row], x[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(maps_y[row], y[0], atol=1e-5, rtol=0)
    assert torch.equal(found[0].features_y[0], opened.read([1])[0])


def test_the_baseline_takes_the_checkpoint_s_backbone_and_its_own_threshold(tmp_path, trunk):
    model = SegSwap(trunk, Transformer(TransformerSettings("tiny", trunk.channels)))
    save_checkpoint(tmp_path / "model.pt", model, {})
    backbone, matcher = load_matcher(tmp_path / "model.pt")
    assert backbone_key(backbone) == backbone_key(trunk)
    assert isinstance(matcher, Transformer) and not matcher.training
    (tmp_path / "baseline.json").write_text('{"threshold": 0.625}')
    backbone, matcher = load_matcher(tmp_path / "model.pt", tmp_path / "baseline.json")
    assert backbone_key(backbone) == backbone_key(trunk)
    assert matcher.threshold == 0.625
    (tmp_path / "other.json").write_text('{"map": 1}')
    with pytest.raises(InputError, match=r"other\.json: has no 'threshold'"):
        load_matcher(tmp_path / "model.pt", tmp_path / "other.json")
