"""Hard negatives: which images may meet, which pairs are hard, and how they are drawn."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator
from segswap.training.hard_negatives import Mined, honest_pairs, mine, pool_features, score_pool
from segswap.training.numerics import Numerics
from segswap.training.pools import (
    MiningSettings,
    PoolImage,
    draw_pool,
    join_pools,
    pool_photos,
    read_pool_image,
    read_pools,
    write_pool,
)
from segswap.training.processes import Processes
from segswap.training.step import Execution

SETTINGS = MiningSettings(
    pool_size=20,
    crop_scale=(0.3, 1.0),
    zero_below=0.04,
    hard_above=0.1,
    min_hard=10,
    max_pools=3,
    per_step=5,
    max_steps=100,
    scoring_batch=16,
)
CPU = Execution(torch.device("cpu"), nn.Identity(), Numerics().on(torch.device("cpu")), Processes())


class ConstantMask(nn.Module):
    """A matcher whose masks have one value everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x, y, x_hidden=None, y_hidden=None):
        return tuple(torch.full((len(side), 3, *side.shape[-2:]), self.value) for side in (x, y))


def model_with(matcher: nn.Module) -> SegSwap:
    torch.manual_seed(1)
    return SegSwap(ResNet(ResNetSettings("resnet10", width=8)), matcher)


@pytest.fixture(scope="module")
def sets(tiny_world):
    return [tiny_world.pair_set("1obj"), tiny_world.pair_set("2obj")]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    return model_with(Transformer(TransformerSettings("tiny", 32, initialisation="matching")))


# The pool


def test_a_pool_never_holds_two_images_of_one_pair(sets):
    for seed in range(5):
        pool = draw_pool(sets, dataclasses.replace(SETTINGS, pool_size=40), 0.5, generator(seed, "pool"))
        assert len({(image.which, image.position) for image in pool}) == len(pool) == 40


def test_a_pool_draws_from_both_sets_sides_and_styles(sets):
    pool = draw_pool(sets, dataclasses.replace(SETTINGS, pool_size=48), 0.5, generator(1, "pool"))
    assert {image.which for image in pool} == {0, 1}
    assert {image.name for image in pool} == {"a.jpg", "b.jpg", "as.jpg", "bs.jpg"}
    assert {image.flip for image in pool} == {True, False}
    assert max(image.position for image in pool) < 24
    for image in draw_pool(sets, SETTINGS, 0.0, generator(1, "pool")):
        assert image.name in ("a.jpg", "b.jpg")


def test_a_pool_larger_than_the_sets_takes_every_pair_once(sets):
    pool = draw_pool(sets, dataclasses.replace(SETTINGS, pool_size=500), 0.5, generator(1, "pool"))
    assert sorted((image.which, image.position) for image in pool) == [(w, n) for w in (0, 1) for n in range(24)]


def test_crops_lie_inside_the_image_and_keep_to_the_asked_area(sets):
    pool = draw_pool(sets, dataclasses.replace(SETTINGS, pool_size=48), 0.5, generator(1, "pool"))
    for x, y, width, height in (image.box for image in pool):
        assert 0 <= x <= x + width <= 1 + 1e-9 and 0 <= y <= y + height <= 1 + 1e-9
        assert 0.25 < width * height <= 1


def test_a_pool_image_is_its_picture_s_crop_mirrored(sets):
    picture = sets[0].picture(3, "b.jpg")
    whole = PoolImage(0, 3, "b.jpg", (0.0, 0.0, 1.0, 1.0), flip=False)
    np.testing.assert_array_equal(read_pool_image(sets, whole), picture)
    mirrored = read_pool_image(sets, dataclasses.replace(whole, flip=True))
    np.testing.assert_array_equal(mirrored, picture[:, ::-1])
    quarter = read_pool_image(sets, dataclasses.replace(whole, box=(0.5, 0.0, 0.5, 0.5)))
    assert quarter.shape == picture.shape
    difference = quarter[::2, ::2].astype(float) - picture[:64, 64:]
    assert np.abs(difference).mean() < 8, "the upper right quarter, enlarged"


def test_photos_of_a_are_its_source_and_of_b_both(sets):
    box = (0.0, 0.0, 1.0, 1.0)
    names = ["a.jpg", "as.jpg", "b.jpg", "bs.jpg"]
    photos = pool_photos(sets, [PoolImage(1, 5, name, box, False) for name in names])
    source, target = sets[1].photos(5)
    assert photos == [{source}, {source}, {source, target}, {source, target}]


# Scores


def test_images_that_share_a_photo_are_never_scored(model):
    photos = [frozenset(p) for p in ([1], [2], [1, 3], [3], [2, 4], [5])]
    features = torch.randn(6, 32, 4, 4, generator=torch.Generator().manual_seed(1)).half()
    pairs, scores = score_pool(model, features, photos, SETTINGS, CPU)
    expected = [pair for pair in itertools.combinations(range(6), 2) if not photos[pair[0]] & photos[pair[1]]]
    assert [tuple(pair) for pair in pairs.tolist()] == expected
    assert len(scores) == len(expected)


def test_scores_are_the_sum_of_both_mean_masks_in_any_batch(sets, model):
    pool = draw_pool(sets, dataclasses.replace(SETTINGS, pool_size=8), 0.5, generator(1, "pool"))
    features = pool_features(model, sets, pool, CPU)
    assert features.shape == (8, 32, 8, 8) and features.dtype == torch.float16
    pairs, scores = score_pool(model, features, pool_photos(sets, pool), SETTINGS, CPU)
    _, one_by_one = score_pool(
        model, features, pool_photos(sets, pool), dataclasses.replace(SETTINGS, scoring_batch=1), CPU
    )
    np.testing.assert_allclose(scores, one_by_one, atol=1e-5)
    model.matcher.eval()
    with torch.no_grad():
        for (i, j), score in list(zip(pairs, scores, strict=True))[:5]:
            first, second = model.matcher(features[i : i + 1].float(), features[j : j + 1].float())
            assert score == pytest.approx((first[:, 2].mean() + second[:, 2].mean()).item(), abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_scoring_runs_without_dropout_and_leaves_the_mode_as_it_was(training):
    model = model_with(Transformer(TransformerSettings("tiny", 32, dropout=0.5)))
    model.matcher.train(training)
    features = torch.randn(4, 32, 4, 4, generator=torch.Generator().manual_seed(1)).half()
    photos = [frozenset([n]) for n in range(4)]
    first, second = (score_pool(model, features, photos, SETTINGS, CPU)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert model.matcher.training is training


@pytest.mark.parametrize(("mask", "expected"), [(0.01, 0.0), (0.02, 0.0), (0.03, 0.06), (0.4, 0.8)])
def test_scores_up_to_the_lower_threshold_count_as_none(mask, expected):
    photos = [frozenset([n]) for n in range(3)]
    # A mask of 0.02 on both sides is the threshold itself, up to rounding in float32.
    settings = dataclasses.replace(SETTINGS, zero_below=float(np.float32(0.02) * 2))
    _, scores = score_pool(model_with(ConstantMask(mask)), torch.zeros(3, 8, 4, 4).half(), photos, settings, CPU)
    assert scores == pytest.approx([expected] * 3)


@pytest.mark.parametrize("seed", range(5))
def test_honest_pairs_are_all_pairs_without_a_common_photo(seed):
    rng = generator(seed, "photos")
    photos = [frozenset(rng.integers(0, 12, rng.integers(1, 3)).tolist()) for _ in range(rng.integers(0, 15))]
    expected = [pair for pair in itertools.combinations(range(len(photos)), 2) if not photos[pair[0]] & photos[pair[1]]]
    assert [tuple(pair) for pair in honest_pairs(photos).tolist()] == expected


def test_all_pairs_of_a_large_pool_are_scored_a_batch_at_a_time():
    """The published 500 images: 124,750 pairs, of which no more than a batch is ever held."""
    largest = 0

    class Counting(ConstantMask):
        def forward(self, x, y, x_hidden=None, y_hidden=None):
            nonlocal largest
            largest = max(largest, len(x))
            return super().forward(x, y)

    settings = dataclasses.replace(SETTINGS, scoring_batch=512)
    photos = [frozenset([n]) for n in range(500)]
    pairs, scores = score_pool(model_with(Counting(0.3)), torch.zeros(500, 2, 2, 2).half(), photos, settings, CPU)
    assert len(pairs) == len(scores) == 124_750
    assert largest == 512
    assert scores == pytest.approx(0.6)


def test_a_scored_pool_comes_back_from_its_file(sets, tmp_path):
    for epoch in (0, 1):
        pool = draw_pool(sets, dataclasses.replace(SETTINGS, pool_size=6), 0.5, generator(epoch, "pool"))
        pairs, scores = np.array([[0, 1], [2, 5], [3, 4]]), np.float32([0.2, 0.9, 0.5])
        write_pool(tmp_path, epoch, sets, pool, pairs, scores)
    join_pools(tmp_path, tmp_path / "pools.parquet")
    rows = list(read_pools(tmp_path / "pools.parquet"))
    assert [(epoch, round(score, 3)) for epoch, score, *_ in rows] == [(e, s) for e in (0, 1) for s in (0.9, 0.5, 0.2)]
    assert rows[3][2:] == (pool[2], pool[5])
    assert list(read_pools(tmp_path / "pools.parquet", 2)) == [*rows[:2], *rows[3:5]], "the hardest of each epoch"


def test_no_pool_at_all_is_an_empty_file(tmp_path):
    join_pools(tmp_path, tmp_path / "pools.parquet")
    assert list(read_pools(tmp_path / "pools.parquet")) == []


# Mining


def test_enough_hard_pairs_end_the_search(sets):
    mined = mine(model_with(ConstantMask(0.4)), sets, SETTINGS, 0.5, (7, 0), CPU)
    photos = pool_photos(sets, mined.pool)
    honest = [pair for pair in itertools.combinations(range(20), 2) if not photos[pair[0]] & photos[pair[1]]]
    assert [tuple(pair) for pair in mined.pairs.tolist()] == honest
    assert mined.n_hard == len(honest)
    assert mined.scores == pytest.approx([0.8] * len(honest))


@pytest.mark.parametrize("mask", [0.01, 0.04])
def test_a_model_without_hard_negatives_ends_the_stage(sets, mask, capsys):
    assert mine(model_with(ConstantMask(mask)), sets, SETTINGS, 0.5, (7, 0), CPU) is None
    assert capsys.readouterr().out.count(" 0 hard") == SETTINGS.max_pools


def test_no_more_than_the_least_number_is_too_few(sets):
    n_hard = mine(model_with(ConstantMask(0.4)), sets, SETTINGS, 0.5, (7, 0), CPU).n_hard
    one_pool = dataclasses.replace(SETTINGS, max_pools=1)
    for least, found in ((n_hard - 1, True), (n_hard, False)):
        settings = dataclasses.replace(one_pool, min_hard=least)
        assert (mine(model_with(ConstantMask(0.4)), sets, settings, 0.5, (7, 0), CPU) is not None) is found


def test_epochs_have_their_own_pools_and_the_address_decides(sets):
    model = model_with(ConstantMask(0.4))
    first = mine(model, sets, SETTINGS, 0.5, (7, 0), CPU)
    assert mine(model, sets, SETTINGS, 0.5, (7, 0), CPU).pool == first.pool
    assert mine(model, sets, SETTINGS, 0.5, (7, 1), CPU).pool != first.pool
    assert mine(model, sets, SETTINGS, 0.5, (8, 0), CPU).pool != first.pool


def example_mined(scores) -> Mined:
    pool = [PoolImage(n % 2, n, "as.jpg", (0.125, 0.25, 0.5, 0.375), bool(n % 3)) for n in range(6)]
    pairs = np.array(list(itertools.combinations(range(6), 2))[: len(scores)])
    return Mined(pool, pairs, np.array(scores, np.float32), 2)


def test_draws_are_without_replacement_and_as_likely_as_their_scores():
    mined = example_mined([0.8, 0.4, 0.2, 0.2])
    counts = np.zeros(4)
    for n in range(2000):
        (drawn,) = mined.draw(generator(1, "draw", n), 1).tolist()
        counts[mined.pairs.tolist().index(drawn)] += 1
    np.testing.assert_allclose(counts / 2000, [0.5, 0.25, 0.125, 0.125], atol=0.04)
    for n in range(20):
        drawn = mined.draw(generator(2, "draw", n), 3)
        assert drawn.shape == (3, 2)
        assert len({tuple(pair) for pair in drawn.tolist()}) == 3


def test_a_draw_of_more_than_there_are_gives_all():
    mined = example_mined([0.8, 0.4])
    assert sorted(mined.draw(generator(1, "draw"), 5).tolist()) == mined.pairs.tolist()


def test_mined_negatives_survive_a_checkpoint(tmp_path):
    mined = example_mined([0.8, 0.4, 0.2])
    torch.save(mined.to_plain(), tmp_path / "mined.pt")
    found = Mined.from_plain(torch.load(tmp_path / "mined.pt", weights_only=True))
    assert (found.pool, found.n_hard) == (mined.pool, mined.n_hard)
    np.testing.assert_array_equal(found.pairs, mined.pairs)
    np.testing.assert_array_equal(found.scores, mined.scores)
    np.testing.assert_array_equal(found.draw(generator(1, "d"), 2), mined.draw(generator(1, "d"), 2))
