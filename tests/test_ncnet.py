"""Nc-Net: what is computed at the kept entries alone equals a dense volume in which all others are 0."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from segswap.models import ncnet
from segswap.models.ncnet import NcNet, NcNetSettings
from segswap.models.transformer import EPSILON
from segswap.sampling import cell_centres

CHANNELS = 6
SIDES = st.integers(1, 4)


def features(seed: int, batch: int, h: int, w: int) -> torch.Tensor:
    random = torch.randn(batch, CHANNELS, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(random, dim=1)


def random_net(top_k: int, width: int = 3, seed: int = 0) -> NcNet:
    """Return a net with weights of all kinds, in float64, with a head that is far from flat."""
    torch.manual_seed(seed)
    net = NcNet(NcNetSettings(CHANNELS, top_k, width)).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    return net


def dense_convolution(volume: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Convolve volumes (I, hx, wx, hy, wy) with kernels (O, I, 3, 3, 3, 3), tap by tap."""
    padded, shape = F.pad(volume, (1,) * 8), volume.shape[1:]
    found = volume.new_zeros(len(kernels), *shape)
    for tap in itertools.product(range(3), repeat=4):
        window = padded[(slice(None), *(slice(t, t + n) for t, n in zip(tap, shape, strict=True)))]
        found = found + torch.einsum("oi,iabcd->oabcd", kernels[(slice(None), slice(None), *tap)], window)
    return found


def dense_branch(net: NcNet, volume: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Return the two convolutions of a volume (hx, wx, hy, wy), everything but the kept entries 0 after each."""
    hidden = dense_convolution(volume[None], net.weight1[:, None]) + net.bias1.view(-1, 1, 1, 1, 1)
    return dense_convolution(hidden.relu() * kept, net.weight2[None])[0] * kept


def exchanged(volume: torch.Tensor) -> torch.Tensor:
    return volume.permute(2, 3, 0, 1)


def dense_net(net: NcNet, x: torch.Tensor, y: torch.Tensor, hidden_x: torch.Tensor, hidden_y: torch.Tensor):
    """Return the outputs of one pair, features (C, h, w), from a dense volume; whole images are never hidden here."""
    (hx, wx), (hy, wy) = x.shape[-2:], y.shape[-2:]
    cosines = torch.einsum("cn,cm->nm", x.flatten(1), y.flatten(1))
    seen = ~hidden_x.flatten()[:, None] & ~hidden_y.flatten()[None, :]
    top_k = net.settings.top_k
    kept = seen
    if top_k:
        # Ranks by counting what is better in the same row, and in the same column.
        better_in_row = ((cosines[:, None, :] > cosines[:, :, None]) & seen[:, None, :]).sum(2)
        better_in_column = ((cosines[None] > cosines[:, None]) & seen[None]).sum(1)
        kept = seen & (torch.minimum(better_in_row, better_in_column) < top_k)
    positive = cosines.clamp(min=0) * seen
    row, column = positive.amax(1, keepdim=True), positive.amax(0, keepdim=True)
    volume = positive * (positive / row.clamp(min=EPSILON)) * (positive / column.clamp(min=EPSILON)) * kept
    volume, kept4 = (each.view(hx, wx, hy, wy) for each in (volume, kept))
    scores = dense_branch(net, volume, kept4) + exchanged(
        dense_branch(net, exchanged(volume).contiguous(), exchanged(kept4))
    )
    scores = scores.reshape(hx * wx, hy * wy)
    maps = []
    best_x, best_y = (scores.masked_fill(~kept, -torch.inf).amax(dim, keepdim=True) for dim in (1, 0))
    for each, entries, (h, w), (other_h, other_w) in (
        (2 * scores - best_y, kept, (hx, wx), (hy, wy)),
        ((2 * scores - best_x).T, kept.T, (hy, wy), (hx, wx)),
    ):
        centres = cell_centres(other_h, other_w).double().flatten(1)
        cells = []
        for cell in range(h * w):
            found = each[cell][entries[cell]]
            if len(found):
                weights = (net.log_sharpness.exp() * found).softmax(0)
                best, position = found.max(), centres[:, entries[cell]] @ weights
            else:
                best, position = each.new_zeros(()), each.new_full((2,), 0.5)
            mask = (net.log_mask_scale.exp() * (best - net.mask_threshold)).sigmoid()
            cells.append(torch.cat([position, mask[None]]))
        maps.append(torch.stack(cells, 1).view(3, h, w).clamp(EPSILON, 1 - EPSILON))
    return maps


def some_hidden(seed: int, features: torch.Tensor) -> torch.Tensor:
    """Return hidden cells of a batch, never all of an image."""
    hidden = torch.rand(len(features), 1, *features.shape[-2:], generator=torch.Generator().manual_seed(seed)) < 0.3
    hidden.flatten(1)[:, 0] = False
    return hidden


def assert_close(found, expected, tolerance: float = 1e-10) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 2, 4, 10, 0]), st.booleans(), st.integers(0, 1000))
def test_the_sparse_evaluation_equals_the_dense_one(hx, wx, hy, wy, top_k, hides, seed):
    net = random_net(top_k, seed=seed)
    x, y = features(seed, 2, hx, wx), features(seed + 1, 2, hy, wy)
    hidden = [
        some_hidden(seed + n, each) if hides else torch.zeros_like(each[:, :1]).bool() for n, each in ((2, x), (3, y))
    ]
    found = net(x, y, *(hidden if hides else ()))
    for n in range(2):
        assert_close([side[n] for side in found], dense_net(net, x[n], y[n], hidden[0][n, 0], hidden[1][n, 0]))


@pytest.mark.parametrize("top_k", [3, 0])
def test_its_gradients_are_those_of_the_dense_one(top_k):
    net = random_net(top_k)
    x, y = features(1, 1, 4, 3).requires_grad_(), features(2, 1, 3, 5).requires_grad_()
    hidden = [some_hidden(3, x), some_hidden(4, y)]
    wanted = [torch.randn(3, *side.shape[-2:], dtype=torch.float64) for side in (x, y)]
    inputs = [x, y, *net.parameters()]

    def gradients(maps):
        return torch.autograd.grad(sum((side * w).sum() for side, w in zip(maps, wanted, strict=True)), inputs)

    expected = gradients(dense_net(net, x[0], y[0], hidden[0][0, 0], hidden[1][0, 0]))
    assert_close(gradients([side[0] for side in net(x, y, *hidden)]), expected)


@pytest.mark.parametrize("top_k", [2, 0])
def test_its_gradients_are_those_that_differences_give(top_k):
    net = random_net(top_k, width=2)
    x, y = features(5, 2, 2, 3).requires_grad_(), features(6, 2, 3, 2).requires_grad_()
    names = [name for name, _ in net.named_parameters()]

    def outputs(x, y, *parameters):
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (x, y))

    assert torch.autograd.gradcheck(outputs, (x, y, *net.parameters()), fast_mode=True)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3, 0]), st.integers(0, 1000))
def test_exchanged_images_give_exchanged_outputs(hx, wx, hy, wy, top_k, seed):
    net = random_net(top_k, seed=seed)
    x, y = features(seed, 2, hx, wx), features(seed + 1, 2, hy, wy)
    hidden = some_hidden(seed, x), some_hidden(seed + 1, y)
    assert_close(net(x, y, *hidden), net(y, x, *hidden[::-1])[::-1], 1e-9)
    assert_close(net(x, x)[:1], net(x, x)[1:], 1e-9)


@pytest.mark.parametrize("top_k", [3, 0])
def test_a_batch_is_the_pairs_one_by_one_however_many_are_in_memory_together(top_k, monkeypatch):
    net = random_net(top_k)
    x, y = features(1, 5, 4, 4), features(2, 5, 3, 5)
    together = net(x, y)
    monkeypatch.setattr(ncnet, "_ENTRIES_AT_ONCE", 200)
    assert_close(net(x, y), together, 1e-12)
    monkeypatch.setattr(ncnet, "_ENTRIES_AT_ONCE", 1)
    assert_close(net(x, y), together, 1e-12)


@pytest.mark.parametrize("top_k", [3, 0])
def test_nothing_of_a_hidden_cell_reaches_the_others_and_it_points_at_the_middle(top_k):
    net = random_net(top_k)
    x, y = features(1, 1, 4, 4), features(2, 1, 4, 5)
    hidden = some_hidden(3, y)
    maps = net(x, y, None, hidden)
    assert_close(net(x, torch.where(hidden, features(9, 1, 4, 5), y), None, hidden), maps, 0)
    of_hidden = maps[1].permute(0, 2, 3, 1)[hidden[:, 0]]
    unmasked = (-net.log_mask_scale.exp() * net.mask_threshold).sigmoid()
    nothing = torch.tensor([0.5, 0.5, unmasked.item()], dtype=torch.float64)
    assert_close([of_hidden], [nothing.expand_as(of_hidden)], 1e-12)


def test_an_image_that_is_hidden_as_a_whole_is_treated_as_if_it_were_not():
    net = random_net(3)
    x, y = features(1, 2, 3, 3), features(2, 2, 4, 2)
    hidden = torch.zeros(2, 1, 4, 2, dtype=torch.bool)
    hidden[0] = True
    assert_close(net(x, y, None, hidden), net(x, y), 0)


@pytest.mark.parametrize("hidden", [None, 3])
def test_plain_pictures_keep_no_more_entries_than_others(monkeypatch, hidden):
    """All cosines of two pictures of one colour are equal: as many would be kept as there are pairs of cells."""
    kept = []
    neighbours = ncnet._neighbours
    monkeypatch.setattr(ncnet, "_neighbours", lambda entries: kept.append(int(entries.sum())) or neighbours(entries))
    net = random_net(2)
    x, y = (features(1, 1, 1, 1).expand(1, -1, 8, side).contiguous() for side in (8, 6))
    for side in net(x, y, None, None if hidden is None else some_hidden(hidden, y)):
        assert side.isfinite().all() and side.min() >= EPSILON and side.max() <= 1 - EPSILON
    assert 0 < kept[0] <= 2 * (64 + 48)


def test_consensus_prefers_a_match_whose_neighbours_match_likewise():
    """A region that was moved is found though each of its cells has a twin elsewhere that is as similar."""
    x = features(1, 1, 6, 6)
    y = features(2, 1, 6, 12)
    y[..., 1:5, 1:5] = x[..., 1:5, 1:5]
    # The twins: the same cells, in another order.
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    y[..., 1:5, 7:11] = x[..., 1:5, 1:5].flatten(2)[..., order].unflatten(2, (4, 4))
    net = NcNet(NcNetSettings(CHANNELS, 4, 1)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        # Each match is worth what lies in step with it in both images.
        for weight in (net.weight1, net.weight2):
            for dy, dx in itertools.product(range(3), repeat=2):
                weight[0, dy, dx, dy, dx] = 1
        net.log_sharpness.fill_(3)
    position = net(x, y)[0][0, :2, 2:4, 2:4]
    expected = torch.stack(torch.meshgrid(torch.tensor([2.5, 3.5]) / 12, torch.tensor([2.5, 3.5]) / 6, indexing="xy"))
    assert_close([position], [expected.double()], 0.01)


def test_autocast_does_not_round_what_is_compared():
    net = random_net(3).float()
    x, y = features(1, 1, 5, 5).float(), features(2, 1, 5, 5).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x.bfloat16().float(), y.bfloat16().float())
    assert all(side.dtype == torch.float32 for side in found)
    assert_close(found, net(x.bfloat16().float(), y.bfloat16().float()), 0)
