"""Held-out pairs: which pairs meet, and that the numbers are right for predictions whose numbers are known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from segswap.benchmarks.pairs import STYLES, metrics, picture_loaders, picture_names
from segswap.benchmarks.pairs_matching import HeldOutPairs, calibrate_threshold, predict
from segswap.benchmarks.predictions import read_predictions, write_predictions
from segswap.errors import InputError
from segswap.matching.cosine import CosineMatcher
from segswap.matching.features import extract_features
from segswap.models.backbones.resnet import ResNet, ResNetSettings

CPU = torch.device("cpu")
LIMIT = 4


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    return ResNet(ResNetSettings("resnet10", width=8, projection=16)).freeze()


@pytest.fixture(scope="module")
def manifests(tiny_world):
    return [tiny_world.pairs["1obj"], tiny_world.pairs["2obj"]]


@pytest.fixture(scope="module")
def sets(tiny_world):
    return [tiny_world.pair_set("1obj"), tiny_world.pair_set("2obj")]


@pytest.fixture(scope="module")
def stores(sets, trunk, tmp_path_factory):
    paths = [tmp_path_factory.mktemp("heldout") / f"{pairs.kind}.npy" for pairs in sets]
    for pairs, path in zip(sets, paths, strict=True):
        extract_features(picture_names(pairs, LIMIT), picture_loaders(pairs, LIMIT), trunk, (128, 128), path)
    return paths


@pytest.fixture(scope="module")
def heldout(manifests, stores, trunk):
    return HeldOutPairs.load(manifests, stores, trunk, LIMIT)


@pytest.fixture(scope="module")
def table(heldout):
    return predict(heldout, CosineMatcher(0.5), CPU, "corrected")


def test_every_pair_is_positive_once_and_negative_once_in_each_style(heldout):
    for which, pairs in enumerate(heldout.sets):
        items = heldout.items(which)
        assert len(items) == len(STYLES) * 2 * LIMIT
        for style in STYLES:
            own = [(a, b) for name, a, b in items if name == style]
            assert own[:LIMIT] == [(n, n) for n in range(LIMIT)]
            assert [a for a, _ in own[LIMIT:]] == list(range(LIMIT))
            for a, b in own[LIMIT:]:
                assert a != b and pairs.photos(a)[0] not in pairs.photos(b)


class ListedPhotos:
    """Stands in for a pair set: source and target photo of each pair."""

    pictures = ("a.jpg", "b.jpg")

    def __init__(self, *photos: tuple[int, int]) -> None:
        self.photos = photos.__getitem__
        self.count = len(photos)

    def __len__(self) -> int:
        return self.count


def test_negatives_share_no_photo_as_source_or_target():
    heldout = HeldOutPairs([ListedPhotos((1, 2), (1, 3), (4, 1), (5, 6))], [], None)
    items = heldout.items(0)
    assert items[4:] == [("plain", 0, 3), ("plain", 1, 3), ("plain", 2, 3), ("plain", 3, 0)]


def test_a_set_in_which_all_is_related_is_an_error(manifests, stores, trunk):
    alone = HeldOutPairs.load(manifests, stores, trunk, 1)
    with pytest.raises(InputError, match=r"no pair is unrelated to .*; make more held-out pairs"):
        alone.items(0)


def test_features_of_other_pairs_are_an_error(manifests, stores, trunk):
    with pytest.raises(InputError, match="features of other pairs than asked for"):
        HeldOutPairs.load(manifests, stores[::-1], trunk, LIMIT)
    with pytest.raises(InputError, match="features of other pairs than asked for"):
        HeldOutPairs.load(manifests, stores, trunk, LIMIT + 1)


def test_predictions_have_a_row_for_each_pair_and_come_back_from_disk(heldout, table, tmp_path):
    assert len(table) == 2 * len(STYLES) * 2 * LIMIT
    assert min(table["score"].to_pylist()) >= 0
    write_predictions(table, tmp_path / "predictions.parquet")
    assert read_predictions([tmp_path / "predictions.parquet"]).equals(table)


def test_numbers_of_an_untrained_matcher_are_sane(sets, table):
    numbers = metrics(sets, table)
    shares = [name for name in numbers if name.startswith(("mask_iou", "within_cell", "roc_auc", "negative_mask"))]
    assert len(shares) == 3 * 5 + 1, "overall, by kind, by style; and the negatives' mask"
    assert all(0 <= numbers[name] <= 1 for name in shares)
    assert 0 < numbers["median_error"] < 8 * 2**0.5
    assert numbers["pairs"] == 2 * len(STYLES) * LIMIT


def answered(sets, table: pa.Table, answer) -> pa.Table:
    """Replace the predictions of a table by ``answer(labels or None, side) -> maps`` (3, h, w), scores to match."""
    by_kind = {pairs.kind: pairs for pairs in sets}
    rows = table.to_pylist()
    for row in rows:
        positive = row["position_a"] == row["position_b"]
        labels = by_kind[row["kind"]].labels(row["position_a"])
        for side in "ab":
            row[f"maps_{side}"] = answer(labels, side, positive).astype(np.float16).tobytes()
        row["score"] = float(positive)
    return pa.Table.from_pylist(rows, schema=table.schema)


def test_right_predictions_have_full_marks(sets, table):
    def right(labels, side, positive):
        mask, corr = getattr(labels, f"mask_{side}"), getattr(labels, f"corr_{side}")
        return np.concatenate([corr, mask[None] * positive])

    numbers = metrics(sets, answered(sets, table, right))
    for name in ("", "_1obj", "_2obj", "_plain", "_styled"):
        assert numbers[f"mask_iou{name}"] == pytest.approx(1, abs=0.02), "masks of just about 0.5 round in float16"
        assert numbers[f"within_cell{name}"] == numbers[f"roc_auc{name}"] == 1
    assert numbers["median_error"] < 0.02
    assert numbers["negative_mask"] == 0


def test_correspondences_two_cells_off_are_not_within_a_cell(sets, table):
    def beside(labels, side, positive):
        mask, corr = getattr(labels, f"mask_{side}"), getattr(labels, f"corr_{side}")
        return np.concatenate([corr + np.array([2 / corr.shape[2], 0])[:, None, None], 1 - mask[None]])

    numbers = metrics(sets, answered(sets, table, beside))
    assert numbers["within_cell"] == 0
    assert numbers["median_error"] == pytest.approx(2, abs=0.02)
    assert numbers["mask_iou"] < 0.02, "the masks are turned inside out"


def test_scores_turned_round_have_no_area_under_the_curve(sets, table):
    rows = table.to_pylist()
    for row in rows:
        row["score"] = float(row["position_a"] != row["position_b"])
    assert metrics(sets, pa.Table.from_pylist(rows, schema=table.schema))["roc_auc"] == 0


def test_the_calibrated_threshold_is_the_best_one(heldout):
    found = calibrate_threshold(heldout, CPU)
    assert -0.2 <= found["threshold"] <= 1

    def iou(threshold: float) -> float:
        return metrics(heldout.sets, predict(heldout, CosineMatcher(threshold), CPU, "corrected"))["mask_iou"]

    assert iou(found["threshold"]) == pytest.approx(found["mask_iou"], abs=1e-6)
    for other in (-0.2, 0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0):
        assert iou(other) <= found["mask_iou"] + 1e-6


def test_limits_keep_the_names_in_the_order_of_the_set(sets):
    for pairs in sets:
        every = picture_names(pairs)
        assert len(every) == len(pairs) * 4
        assert picture_names(pairs, LIMIT) == every[: LIMIT * 4]
        assert picture_names(pairs, 10**6) == every
        loaders = picture_loaders(pairs, LIMIT)
        np.testing.assert_array_equal(loaders[5](), pairs.picture(1, pairs.pictures[1]))
