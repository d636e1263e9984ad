"""The baseline without a trained matcher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from segswap.matching.cosine import CosineMatcher, best_cosines
from segswap.sampling import cell_centres


def features(seed: int, batch: int, h: int, w: int) -> torch.Tensor:
    return F.normalize(torch.randn(batch, 8, h, w, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_each_cell_points_at_its_most_similar_cell_and_is_masked_by_the_threshold():
    x, y = features(1, 2, 4, 6), features(2, 2, 5, 3)
    outputs = CosineMatcher(0.5)(x, y)
    assert [tuple(output.shape) for output in outputs] == [(2, 3, 4, 6), (2, 3, 5, 3)]
    for output, own, other in zip(outputs, (x, y), (y, x), strict=True):
        h, w = other.shape[-2:]
        for n, i, j in np.ndindex(2, *own.shape[-2:]):
            cosines = torch.einsum("c,chw->hw", own[n, :, i, j], other[n])
            row, column = divmod(int(cosines.argmax()), w)
            assert output[n, :2, i, j].tolist() == pytest.approx([(column + 0.5) / w, (row + 0.5) / h])
            assert output[n, 2, i, j] == float(cosines.max() > 0.5)
    assert 0 < outputs[0][:, 2].mean() < 1, "both sides of the threshold occur"


def test_an_image_matches_itself_cell_by_cell():
    x = features(1, 1, 4, 6)
    there, back = CosineMatcher(0.99)(x, x)
    torch.testing.assert_close(there[0, :2], cell_centres(4, 6))
    assert torch.equal(there, back)
    assert there[:, 2].all()


def test_hidden_cells_are_never_matched():
    x, y = features(1, 2, 4, 6), features(2, 2, 5, 3)
    hidden = torch.zeros(2, 1, 5, 3, dtype=torch.bool)
    hidden[:, :, :, 1:] = True
    there, back = CosineMatcher(0.5)(x, y, None, hidden)
    torch.testing.assert_close(there[:, 0], torch.full((2, 4, 6), 0.5 / 3))
    assert torch.equal(back, CosineMatcher(0.5)(x, y)[1]), "the other direction is as before"
    swapped = CosineMatcher(0.5)(y, x, hidden, None)
    assert torch.equal(swapped[1], there) and torch.equal(swapped[0], back)


@pytest.mark.parametrize(("threshold", "share"), [(-1.5, 1.0), (1.5, 0.0)])
def test_thresholds_outside_the_cosines_give_full_and_empty_masks(threshold, share):
    for output in CosineMatcher(threshold)(features(1, 1, 4, 6), features(2, 1, 5, 3)):
        assert output[:, 2].mean() == share


def test_best_cosines_are_those_behind_the_masks():
    x, y = features(1, 2, 4, 6), features(2, 2, 5, 3)
    best = best_cosines(x, y)
    assert best.shape == (2, 4, 6)
    assert torch.equal((best > 0.4).float(), CosineMatcher(0.4)(x, y)[0][:, 2])
    torch.testing.assert_close(best_cosines(x, x), torch.ones(2, 4, 6))
