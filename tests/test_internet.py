"""Internet: images against masks, and that known segmentations have known numbers."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pyarrow as pa
import pytest

from segswap.benchmarks import internet
from segswap.benchmarks.internet import SegmentationSettings
from segswap.discovery.clusters import principal_only
from segswap.discovery.graph import GraphSettings, collection_graph
from segswap.discovery.predictions import PairPredictions
from segswap.errors import InputError
from segswap.images import encode_jpeg
from segswap.randomness import generator

NAME = "Car100"
GRAPH = GraphSettings(
    top_k=3, mask_threshold=0.5, sigma=1.2, two_cycles=True, mask_weighting=True, protocol="corrected"
)
SETTINGS = SegmentationSettings(reduction="sum", foreground=0.6, protocol="corrected")
N_OBJECTS, N_NOISE = 3, 1


def draw_image(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture, RGB uint8, and its mask, uint8 of 0 and 255: a red disc on blue, or blue noise alone."""
    rng = generator(number, "internet")
    picture = np.zeros((72, 96, 3), np.uint8)
    picture[..., 2] = rng.integers(150, 220, (72, 96))
    mask = np.zeros((72, 96), np.uint8)
    if number < N_OBJECTS:
        cv2.circle(mask, (30 + 12 * number, 36), 20, 255, -1)
        picture[mask > 0] = rng.integers(150, 250, (int((mask > 0).sum()), 1)) * np.array([1, 0, 0])
    return picture, mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("internet")
    (root / NAME / "GroundTruth").mkdir(parents=True)
    for number in range(N_OBJECTS + N_NOISE):
        picture, mask = draw_image(number)
        (root / NAME / f"{number:04d}.jpg").write_bytes(encode_jpeg(picture))
        cv2.imwrite(str(root / NAME / "GroundTruth" / f"{number:04d}.png"), mask)
    return root


@pytest.fixture(scope="module")
def images(folder):
    return internet.load(folder, NAME)


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of the data set that a test may damage."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


# Loading


def test_pictures_and_masks_of_the_same_names_load_in_order(images):
    assert images.images == ("0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg")
    truth = internet.read_truth(images, "0001.jpg", (72, 96))
    np.testing.assert_array_equal(truth, draw_image(1)[1] > 0)
    assert not internet.read_truth(images, "0003.jpg", (72, 96)).any()


def test_a_missing_class_too_few_images_and_missing_masks_are_errors(copied):
    with pytest.raises(InputError, match="no such folder"):
        internet.load(copied, "Horse100")
    (copied / NAME / "GroundTruth" / "0002.png").unlink()
    with pytest.raises(InputError, match=r"1 images have no mask \(first: .*0002\.png\)"):
        internet.load(copied, NAME)
    for number in (0, 1):
        (copied / NAME / f"000{number}.jpg").unlink()
    with pytest.raises(InputError, match="2 images; discovery compares at least three"):
        internet.load(copied, NAME)


def test_a_mask_of_another_size_or_that_does_not_open_is_an_error(copied):
    images = internet.load(copied, NAME)
    with pytest.raises(InputError, match=r"0001\.png: 96 x 72 pixels, its image 96 x 80"):
        internet.read_truth(images, "0001.jpg", (80, 96))
    internet.truth_path(images, "0001.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0001\.png: does not open"):
        internet.read_truth(images, "0001.jpg", (72, 96))


@pytest.mark.parametrize("value", [1, 128, 254])
def test_a_mask_with_other_values_than_0_and_255_is_an_error(copied, value):
    images = internet.load(copied, NAME)
    mask = cv2.imread(str(internet.truth_path(images, "0001.jpg")), cv2.IMREAD_GRAYSCALE)
    mask[mask == 255] = value
    cv2.imwrite(str(internet.truth_path(images, "0001.jpg")), mask)
    with pytest.raises(InputError, match=rf"0001\.png: \d+ pixels are neither 0 nor 255 \(one is {value}\)"):
        internet.read_truth(images, "0001.jpg", (72, 96))


# From predictions to segmentations


def predictions(n_pairs: int) -> PairPredictions:
    """Return predictions in which the first pairs of four images correspond, cell by cell, in their left halves."""
    pairs = np.array([[0, 1], [0, 2], [1, 2], [0, 3], [1, 3], [2, 3]])[:n_pairs].reshape(-1, 2)
    y, x = np.indices((6, 6)) + 0.5
    maps = np.stack([x / 6, y / 6, (x < 3).astype(float)]).astype(np.float16)
    maps = np.broadcast_to(maps, (n_pairs, 3, 6, 6))
    return PairPredictions(pairs, maps, maps, np.full((n_pairs, 2), 5.0))


def test_a_class_is_discovered_from_predictions_to_numbers(images):
    graph = collection_graph(predictions(3), 4, GRAPH)
    masks = internet.soft_masks(graph, principal_only(graph.weights), SETTINGS)
    assert masks.shape == (4, 6, 6) and masks.dtype == np.float32
    assert (masks[:3, :, :3] > 0).all() and not masks[:3, :, 3:].any()
    assert not masks[3].any(), "an image in no pair"
    table = internet.segment_class(images, masks, SETTINGS.foreground)
    assert table["image"].to_pylist() == list(images.images)
    assert set(table["class"].to_pylist()) == {NAME}
    assert table["truth_empty"].to_pylist() == [False, False, False, True]
    numbers = internet.metrics(table)
    assert (numbers.pop("images"), numbers.pop("noise_images")) == (4, 1)
    assert all(0 <= value <= 1 for value in numbers.values())


def test_a_class_in_which_nothing_matches_has_empty_masks(images, capsys):
    graph = collection_graph(predictions(0), 4, GRAPH)
    assert "nothing repeats" in capsys.readouterr().out
    masks = internet.soft_masks(graph, principal_only(graph.weights), SETTINGS)
    assert masks.shape == (4, 6, 6) and not masks.any()
    numbers = internet.metrics(internet.segment_class(images, masks, SETTINGS.foreground))
    assert numbers["jaccard"] == 0
    assert 0.5 < numbers["precision"] < 1, "the background is right"


def test_a_soft_mask_on_the_object_segments_it_to_a_pixel_of_its_border(images):
    masks = np.stack([cv2.resize(draw_image(n)[1], (24, 18), interpolation=cv2.INTER_AREA) / 255 for n in range(4)])
    table = internet.segment_class(images, masks.astype(np.float32), 0.6)
    for row in table.to_pylist()[:N_OBJECTS]:
        png = cv2.imdecode(np.frombuffer(row["segmentation"], np.uint8), cv2.IMREAD_GRAYSCALE) > 0
        truth = draw_image(int(row["image"][:4]))[1] > 0
        # JPEG blurs the border between the colours by about a pixel.
        ring = np.ones((3, 3), np.uint8)
        surely = cv2.erode(truth.astype(np.uint8), ring) > 0
        perhaps = cv2.dilate(truth.astype(np.uint8), ring) > 0
        assert png[surely].all() and not png[~perhaps].any()
        assert row["jaccard"] == pytest.approx((png & truth).sum() / (png | truth).sum())
    assert table.to_pylist()[3]["precision"] == 1


def table_of(rows: list[tuple]) -> pa.Table:
    names = ("class", "image", "precision", "jaccard", "truth_empty")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])


def test_images_with_an_empty_truth_count_in_one_of_the_two_jaccards():
    rows = [("Car100", "1", 0.5, 0.25, False), ("Car100", "2", 1.0, 0.75, False), ("Car100", "3", 1.0, 0.0, True)]
    numbers = internet.metrics(table_of([*rows, ("Horse100", "1", 0.5, 1.0, False)]))
    assert numbers["jaccard_Car100"] == 0.5
    assert numbers["jaccard_all_Car100"] == pytest.approx(1 / 3)
    assert numbers["precision_Car100"] == pytest.approx(2.5 / 3)
    assert numbers["jaccard"] == 0.75, "the mean over classes, however many images they have"
    assert (numbers["images"], numbers["noise_images"]) == (4, 1)


def test_right_segmentations_have_full_marks():
    rows = [(name, str(n), 1.0, 1.0, False) for name in internet.CLASSES for n in range(2)]
    numbers = internet.metrics(table_of(rows))
    assert (numbers.pop("images"), numbers.pop("noise_images")) == (6, 0)
    assert set(numbers.values()) == {1.0}


def test_soft_masks_come_back_from_disk(tmp_path):
    masks = np.random.default_rng(1).random((3, 6, 6)).astype(np.float32)
    internet.write_masks(tmp_path / "masks.npz", masks)
    np.testing.assert_array_equal(internet.read_masks(tmp_path / "masks.npz"), masks)
    with pytest.raises(InputError, match=r"gone\.npz: not readable as soft masks"):
        internet.read_masks(tmp_path / "gone.npz")
