"""Internet: images against masks, the pairs that are kept, and that known segmentations have known numbers."""

from __future__ import annotations

import dataclasses
import shutil

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from segswap.benchmarks import internet
from segswap.benchmarks.internet import ImageClass, InternetSettings, PairPredictions
from segswap.benchmarks.internet_matching import predict
from segswap.errors import InputError
from segswap.images import encode_jpeg
from segswap.matching.features import FeatureStore, extract_features
from segswap.models.backbone import Backbone, BackboneSettings
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator
from segswap.sampling import cell_centres

CPU = torch.device("cpu")
NAME = "Car100"
SETTINGS = InternetSettings(
    image_size=96,
    flip=False,
    min_share=0.01,
    top_k=3,
    mask_threshold=0.5,
    sigma={"default": 1.2, "Horse100": 5.0},
    two_cycles=True,
    mask_weighting=True,
    reduction="sum",
    foreground=0.6,
    protocol="corrected",
)
PAIR_CASES = ["sq30", "ns30x40", "sq12", "ns8x12", "rand12x9"]
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
    with pytest.raises(InputError, match="2 images; discovery needs at least three"):
        internet.load(copied, NAME)


def test_a_mask_of_another_size_or_that_does_not_open_is_an_error(copied):
    images = internet.load(copied, NAME)
    with pytest.raises(InputError, match=r"0001\.png: 96 x 72 pixels, its image 96 x 80"):
        internet.read_truth(images, "0001.jpg", (80, 96))
    images.truth_path("0001.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0001\.png: does not open"):
        internet.read_truth(images, "0001.jpg", (72, 96))


def test_a_class_without_a_sigma_of_its_own_takes_the_default():
    assert (SETTINGS.sigma_of("Horse100"), SETTINGS.sigma_of("Car100")) == (5.0, 1.2)


def test_mirrored_images_follow_the_plain_ones(images):
    assert internet.feature_names(images, False) == list(images.images)
    names, loaders = internet.feature_names(images, True), internet.image_loaders(images, True)
    assert len(names) == len(set(names)) == len(loaders) == 8
    np.testing.assert_array_equal(loaders[5](), loaders[1]()[:, ::-1])


# Pairs


class MeasuredStore:
    """Stands in for a feature store: measured features by position."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = torch.from_numpy(features)

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
    images = ImageClass(shared, case, tuple(str(k) for k in range(n)))
    settings = dataclasses.replace(SETTINGS, protocol="published")
    matcher = MeasuredMatcher(of["output1"], of["output2"])
    found = predict(images, MeasuredStore(of["feat"]), matcher, settings, CPU)
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
    images = ImageClass(None, "drawn", ("0", "1", "2"))
    store = MeasuredStore(features.expand(3, -1, -1, -1).numpy())
    found = predict(images, store, MeasuredMatcher(there.numpy(), back.numpy()), SETTINGS, CPU)
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
    images = ImageClass(None, "drawn", ("0", "1", "2"))
    found = predict(images, store, Mirrors(), dataclasses.replace(SETTINGS, flip=True), CPU)
    row = found.pairs.tolist().index([0, 1])
    centres = cell_centres(6, 6).numpy()
    mirrored = np.stack([1 - centres[0], centres[1]])
    np.testing.assert_allclose(found.maps_1[row, :2], mirrored, atol=1e-3)
    np.testing.assert_allclose(found.maps_2[row, :2], mirrored, atol=1e-3, err_msg="both ways are mirrored")
    np.testing.assert_allclose(found.scores[row], 36, rtol=1e-3)


@pytest.fixture(scope="module")
def predicted(images, tmp_path_factory):
    torch.manual_seed(1)
    trunk = Backbone(BackboneSettings("resnet10", width=8)).freeze()
    matcher = Transformer(TransformerSettings("tiny", trunk.channels, initialisation="matching")).eval()
    path = tmp_path_factory.mktemp("store") / "features.npy"
    names, loaders = internet.feature_names(images, True), internet.image_loaders(images, True)
    extract_features(names, loaders, trunk, (96, 96), path)
    settings = dataclasses.replace(SETTINGS, flip=True)
    return predict(images, FeatureStore(path, trunk, names), matcher, settings, CPU)


def test_predictions_come_back_from_disk(predicted, tmp_path):
    predicted.write(tmp_path / "pairs.npz")
    found = PairPredictions.read(tmp_path / "pairs.npz")
    for field in dataclasses.fields(PairPredictions):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(predicted, field.name))
    (tmp_path / "pairs.npz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"pairs\.npz: not readable as pair predictions"):
        PairPredictions.read(tmp_path / "pairs.npz")


# From predictions to segmentations


def test_an_untrained_model_runs_through_to_sane_numbers(images, predicted):
    assert len(predicted.pairs) and (predicted.scores.max(1) > 0.36).all()
    masks = internet.discover(images, predicted, SETTINGS)
    assert masks.shape == (4, 6, 6) and masks.dtype == np.float32
    assert np.isfinite(masks).all() and masks.min() >= 0
    table = internet.segment_class(images, masks, SETTINGS)
    assert table["image"].to_pylist() == list(images.images)
    assert table["truth_empty"].to_pylist() == [False, False, False, True]
    numbers = internet.metrics(table)
    assert numbers.pop("images") == 4
    assert all(0 <= value <= 1 for value in numbers.values())


def test_a_class_in_which_nothing_matches_has_empty_masks(images, capsys):
    none = PairPredictions(
        np.zeros((0, 2), np.int64),
        np.zeros((0, 3, 6, 6), np.float16),
        np.zeros((0, 3, 6, 6), np.float16),
        np.zeros((0, 2)),
    )
    masks = internet.discover(images, none, SETTINGS)
    assert masks.shape == (4, 6, 6) and not masks.any()
    assert "no two images match" in capsys.readouterr().out
    numbers = internet.metrics(internet.segment_class(images, masks, SETTINGS))
    assert numbers["jaccard"] == 0
    assert 0.5 < numbers["precision"] < 1, "the background is right"


def test_a_soft_mask_on_the_object_segments_it_to_a_pixel_of_its_border(images):
    masks = np.stack([cv2.resize(draw_image(n)[1], (24, 18), interpolation=cv2.INTER_AREA) / 255 for n in range(4)])
    table = internet.segment_class(images, masks.astype(np.float32), SETTINGS)
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
    assert numbers["images"] == 4


def test_right_segmentations_have_full_marks():
    rows = [(name, str(n), 1.0, 1.0, False) for name in internet.CLASSES for n in range(2)]
    numbers = internet.metrics(table_of(rows))
    assert numbers.pop("images") == 6
    assert set(numbers.values()) == {1.0}


def test_soft_masks_come_back_from_disk(tmp_path):
    masks = np.random.default_rng(1).random((3, 6, 6)).astype(np.float32)
    internet.write_masks(tmp_path / "masks.npz", masks)
    np.testing.assert_array_equal(internet.read_masks(tmp_path / "masks.npz"), masks)
    with pytest.raises(InputError, match=r"gone\.npz: not readable as soft masks"):
        internet.read_masks(tmp_path / "gone.npz")
