"""The score of a pair: the released numbers, and the batched form against loops over cells."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from segswap.matching.score import (
    PROTOCOLS,
    hit_cells,
    hit_cosines,
    joint_mask,
    score_pairs,
    self_match_mask,
    symmetric_scores,
)
from segswap.sampling import cycle_masks, sample

BRUEGHEL_CASES = ["sq20", "sq30", "tokyo30x40", "tokyo30x40b", "rand12x16"]
PAIR_CASES = ["sq30", "ns30x40", "sq12", "ns8x12", "rand12x9"]


def random_pair(seed: int, batch: int = 2, source=(5, 7), target=(6, 4), channels: int = 8):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.rand(batch, 3, *shape, generator=generator) for shape in (source, target)]
    features = [F.normalize(torch.randn(batch, channels, *s, generator=generator), dim=1) for s in (source, target)]
    return *maps, *features, torch.rand(batch, 1, *source, generator=generator)


def looped_score(maps_x, maps_y, features_x, features_y, weight, protocol) -> float:
    """Score one pair cell by cell, as the specification says it."""
    h, w = maps_y.shape[-2:]
    transported = sample(maps_y[None, 2:], maps_x[None, :2])[0, 0]
    best: dict[tuple[int, int], float] = {}
    for i, j in np.ndindex(*maps_x.shape[-2:]):
        x, y = maps_x[0, i, j].item(), maps_x[1, i, j].item()
        if protocol == "published":
            cell = round(y * (h - 1)), round(x * (w - 1))
        else:
            cell = min(int(y * h), h - 1), min(int(x * w), w - 1)
        cosine = float(features_x[:, i, j] @ features_y[:, cell[0], cell[1]])
        value = (maps_x[2, i, j] * transported[i, j] * weight[0, i, j]).item() * cosine
        best[cell] = max(best.get(cell, 0.0), value)
    return sum(best.values())


# Against measurements of the released code


@pytest.mark.parametrize("case", BRUEGHEL_CASES)
def test_masks_and_score_of_a_query_equal_the_measured_ones(shared, case):
    with np.load(shared / "golden" / "c_brueghel_score.npz", allow_pickle=False) as file:
        own = {name.removeprefix(f"{case}__"): file[name] for name in file.files if name.startswith(f"{case}__")}
    facts = json.loads((shared / "golden" / "c_scores.json").read_text())[case]
    of = {name: torch.from_numpy(value)[None].double() for name, value in own.items()}

    own_maps = of["o1_self"], of["o2_self"]
    weight = self_match_mask(own_maps, of["query_mask"][None])
    torch.testing.assert_close(weight[0], of["self_query"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        cycle_masks(*own_maps, of["query_mask"][None])[1][0], of["self_target"], atol=1e-5, rtol=0
    )
    pair = of["o1"], of["o2"]
    torch.testing.assert_close(joint_mask(*pair, weight)[0], of["transported"], atol=1e-5, rtol=0)
    cells = hit_cells(of["o1"][:, :2], of["o2"].shape[-2:], "published")[0][of["query_mask"][0] > 0]
    width = of["o2"].shape[-1]
    assert (cells % width).tolist() == own["x2"].tolist()
    assert (cells // width).tolist() == own["y2"].tolist()
    assert len(cells.unique()) == facts["n_distinct_targets"]
    score = score_pairs(*pair, of["feat_query"], of["feat_db"], weight, "published")
    assert score.item() == pytest.approx(facts["score"], abs=1e-5)


@pytest.mark.parametrize("case", PAIR_CASES)
def test_masks_and_scores_of_image_pairs_equal_the_measured_ones(shared, case):
    with np.load(shared / "golden" / "c_compute_pair.npz", allow_pickle=False) as file:
        of = {n.removeprefix(f"{case}__"): torch.from_numpy(file[n]) for n in file.files if n.startswith(f"{case}__")}
    first, second = of["output1"], of["output2"]
    x, y = (of["feat"][of["pair_idx"][:, side].long()] for side in (0, 1))
    ones = torch.ones_like(first[:, 2:])
    torch.testing.assert_close(joint_mask(first, second, ones), of["m1_cycle"], atol=1e-6, rtol=0)
    torch.testing.assert_close(joint_mask(second, first, ones), of["m2_cycle"], atol=1e-6, rtol=0)
    scored = of["score_all"].any(dim=1)
    assert scored.sum() >= 4
    there = score_pairs(first, second, x, y, ones, "published")
    back = score_pairs(second, first, y, x, ones, "published")
    found = torch.stack([there, back], dim=1)[scored]
    torch.testing.assert_close(found.double(), of["score_all"][scored], atol=1e-4, rtol=1e-5)


# Against brute force


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(6))
def test_the_batched_score_equals_a_loop_over_cells(protocol, seed):
    pair = random_pair(seed)
    if seed % 2:
        # Many cells hit one target: only the largest contribution may count.
        pair[0][:, :2] = 0.4 + 0.2 * pair[0][:, :2]
    found = score_pairs(*pair, protocol)
    for n in range(2):
        assert found[n].item() == pytest.approx(looped_score(*(part[n] for part in pair), protocol), abs=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_score_is_never_negative(protocol):
    maps_x, maps_y, x, y, weight = random_pair(3)
    assert (score_pairs(maps_x, maps_y, x, y, weight, protocol) > 0).all(), "some cosines are positive"
    nowhere_alike = score_pairs(maps_x, maps_y, x.abs(), -y.abs(), weight, protocol)
    assert not nowhere_alike.any(), "negative cosines are not subtracted"


def test_a_score_is_bounded_by_the_smaller_image_and_reached_by_a_perfect_match():
    h, w = 5, 7
    features = F.normalize(torch.randn(1, 8, h, w, generator=torch.Generator().manual_seed(1)), dim=1)
    centres = torch.stack(torch.meshgrid((torch.arange(w) + 0.5) / w, (torch.arange(h) + 0.5) / h, indexing="xy"))
    perfect = torch.cat([centres, torch.ones(1, h, w)])[None]
    ones = torch.ones(1, 1, h, w)
    assert score_pairs(perfect, perfect, features, features, ones).item() == pytest.approx(h * w, rel=1e-5)
    for seed in range(4):
        assert (score_pairs(*random_pair(seed)) <= 6 * 4).all()


def test_cells_without_weight_do_not_count():
    maps_x, maps_y, x, y, weight = random_pair(2)
    weight[:, :, 2:] = 0
    before = score_pairs(maps_x, maps_y, x, y, weight)
    changed = maps_x.clone()
    changed[:, :, 2:] = 0.5
    torch.testing.assert_close(score_pairs(changed, maps_y, x, y, weight), before)
    assert not score_pairs(maps_x, maps_y, x, y, torch.zeros_like(weight)).any()


# Cells and cosines


@pytest.mark.parametrize(("protocol", "wrong"), [("corrected", 0), ("published", 17)])
def test_the_corrected_protocol_hits_the_cell_that_holds_the_position(protocol, wrong):
    w = 20
    position = torch.full((1, 2, 1, w), 0.5)
    position[0, 0, 0] = (torch.arange(w) + 0.5) / w + 0.4 / w
    columns = hit_cells(position, (1, w), protocol)[0, 0]
    assert (columns != torch.arange(w)).sum() <= wrong
    assert bool((columns != torch.arange(w)).any()) is bool(wrong), "rounding x * (w - 1) misses some"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_positions_on_and_beyond_the_border_hit_the_nearest_cell(protocol):
    position = torch.tensor([[-0.2, 0.0, 1.0, 1.3], [0.0, 1.0, 1.0, -1.0]])[None, :, None]
    assert hit_cells(position, (3, 5), protocol)[0, 0].tolist() == [0, 10, 14, 4]


def test_published_rounding_is_half_to_even():
    position = torch.tensor([[0.5 / 4, 1.5 / 4, 2.5 / 4], [0.0, 0.0, 0.0]])[None, :, None]
    assert hit_cells(position, (3, 5), "published")[0, 0].tolist() == [0, 2, 2]


def test_hit_cosines_relate_each_cell_to_the_cell_it_hits():
    _, _, x, y, _ = random_pair(1)
    cells = torch.randint(0, 24, (2, 5, 7), generator=torch.Generator().manual_seed(2))
    found = hit_cosines(x, y, cells)
    for n, i, j in np.ndindex(2, 5, 7):
        row, column = divmod(int(cells[n, i, j]), 4)
        assert found[n, i, j].item() == pytest.approx(float(x[n, :, i, j] @ y[n, :, row, column]), abs=1e-6)


def test_the_symmetric_score_does_not_know_which_image_came_first():
    for seed in range(3):
        maps_x, maps_y, x, y, _ = random_pair(seed)
        there = symmetric_scores(maps_x, maps_y, x, y)
        torch.testing.assert_close(there, symmetric_scores(maps_y, maps_x, y, x))
        ones = torch.ones_like(maps_x[:, 2:]), torch.ones_like(maps_y[:, 2:])
        both = score_pairs(maps_x, maps_y, x, y, ones[0]), score_pairs(maps_y, maps_x, y, x, ones[1])
        torch.testing.assert_close(there, sum(both) / 2)


@pytest.mark.parametrize("batch", [1, 5])
def test_the_layout_of_features_in_memory_does_not_change_the_score(batch):
    """Channels last, as stores give them, or first; a query's features shared by many candidates."""
    generator = torch.Generator().manual_seed(1)
    maps = [torch.rand(batch, 3, 9, 31, generator=generator) for _ in range(2)]
    x = F.normalize(torch.randn(1, 8, 9, 31, generator=generator), dim=1).expand(batch, -1, -1, -1)
    y = F.normalize(torch.randn(batch, 8, 9, 31, generator=generator), dim=1)
    ones = torch.ones(batch, 1, 9, 31)
    first = score_pairs(*maps, x, y, ones)
    last = score_pairs(*maps, x, y.contiguous(memory_format=torch.channels_last), ones)
    torch.testing.assert_close(first, last)
