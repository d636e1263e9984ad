"""The losses: the released arithmetic, the paper's formula, and their bounds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from segswap.sampling import cell_centres
from segswap.training.batches import negative_indices
from segswap.training.losses import Targets, pair_losses

CASES = ["warp_3_6_8x13", "nowarp_3_6_8x13", "warp_hard_3_6_4_8x13", "warp_noplateau_2_2_30x30", "warp_5_15_12x12"]


def random_maps(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def random_targets(seed: int, batch: int, h: int, w: int) -> Targets:
    return Targets(
        mask_a=random_maps(seed, batch, 1, h, w),
        mask_b=random_maps(seed + 1, batch, 1, h, w),
        corr_a=random_maps(seed + 2, batch, 2, h, w),
        corr_b=random_maps(seed + 3, batch, 2, h, w),
    )


class Measured:
    """One measured case: its tensors by name and what the released code made of them."""

    def __init__(self, shared, case: str) -> None:
        with np.load(shared / "golden" / "b_loss.npz", allow_pickle=False) as file:
            own = {name.removeprefix(f"{case}__"): file[name] for name in file.files if name.startswith(f"{case}__")}
        self.of = {name: torch.from_numpy(value) for name, value in own.items()}
        self.facts = json.loads((shared / "golden" / "b_loss.json").read_text())[case]
        self.outputs = [self.of[name].requires_grad_() for name in ("O1", "O2")]
        targets = Targets(self.of["M1"], self.of["M2"], self.of["xy1"], self.of["xy2"])
        negatives = [value for name, value in self.of.items() if name.startswith("neg")]
        self.losses = pair_losses(
            *self.outputs, targets, negatives, self.facts["eta_corr"], "maximum", self.facts["warp_mask"]
        )


@pytest.mark.parametrize("case", CASES)
def test_losses_accuracies_and_gradients_equal_the_measured_ones(shared, case):
    measured = Measured(shared, case)
    expected = {
        "total": "loss",
        "mask": "loss_mask",
        "correspondence": "loss_corr",
        "accuracy_positive": "acc_pos",
        "accuracy_negative": "acc_neg",
        "accuracy": "acc",
    }
    for ours, theirs in expected.items():
        assert getattr(measured.losses, ours).item() == pytest.approx(measured.facts[theirs], abs=1e-5), ours
    measured.losses.total.backward()
    for side, output in enumerate(measured.outputs, 1):
        torch.testing.assert_close(output.grad, measured.of[f"grad_O{side}"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sizes", [(5, 15), (4, 12), (5, 20), (5, 7)])
def test_negative_tables_equal_the_measured_ones(shared, sizes):
    facts = json.loads((shared / "golden" / "b_loss.json").read_text())[f"neg_tables_{sizes[0]}_{sizes[1]}"]
    assert negative_indices(*sizes) == (facts["T1_index"], facts["T2_index"])


def test_correspondence_loss_of_all_cells_is_the_paper_s_formula():
    targets = random_targets(1, 2, 4, 5)
    a, b = random_maps(7, 2, 3, 4, 5), random_maps(8, 2, 3, 4, 5)
    found = pair_losses(a, b, targets, [], eta=8, cells="all").correspondence
    total = weight = 0.0
    for output, mask, corr in ((a, targets.mask_a, targets.corr_a), (b, targets.mask_b, targets.corr_b)):
        for n, i, j in np.ndindex(2, 4, 5):
            total += (mask[n, 0, i, j] * (output[n, :2, i, j] - corr[n, :, i, j]).abs().sum() / 2).item()
            weight += mask[n, 0, i, j].item()
    assert found.item() == pytest.approx(total / weight, rel=1e-5)


def test_cells_off_the_mask_have_no_part_in_the_correspondence_loss():
    targets = random_targets(1, 1, 4, 5)
    targets.mask_a[:, :, :2], targets.mask_b[:, :, :, 3:] = 0, 0
    a, b = random_maps(7, 1, 3, 4, 5), random_maps(8, 1, 3, 4, 5)
    before = pair_losses(a, b, targets, [], 8, "all")
    a[:, :2, :2], b[:, :2, :, 3:] = 0.9, 0.9
    assert pair_losses(a, b, targets, [], 8, "all").correspondence == before.correspondence


@pytest.mark.parametrize("cells", ["all", "maximum"])
def test_right_outputs_have_almost_no_loss_and_full_accuracy(cells):
    # The target is the source shifted by two cells: every masked cell has its place in both images.
    identity = cell_centres(8, 8)[None]
    shift = torch.tensor([2 / 8, 0.0])[None, :, None, None]
    mask_a, mask_b = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    mask_a[:, :, 2:6, 1:4], mask_b[:, :, 2:6, 3:6] = 1, 1
    targets = Targets(mask_a, mask_b, identity + shift, identity - shift)
    a = torch.cat([targets.corr_a, mask_a.clamp(1e-7, 1 - 1e-7)], dim=1)
    b = torch.cat([targets.corr_b, mask_b.clamp(1e-7, 1 - 1e-7)], dim=1)
    losses = pair_losses(a, b, targets, [torch.full((3, 3, 8, 8), 1e-7)], 8, cells)
    assert losses.total < 1e-4
    assert losses.accuracy == 1
    wrong = a.clone()
    wrong[:, 2] = 1 - wrong[:, 2]
    assert pair_losses(wrong, b, targets, [], 8, cells).mask > 1
    far = a.clone()
    far[:, :2] = 1 - far[:, :2]
    assert pair_losses(far, b, targets, [], 8, cells).correspondence > 0.1


def test_negatives_ask_for_empty_masks_only():
    targets = random_targets(1, 1, 4, 5)
    a, b = random_maps(7, 1, 3, 4, 5), random_maps(8, 1, 3, 4, 5)
    quiet, loud = torch.full((4, 3, 4, 5), 0.01), torch.full((4, 3, 4, 5), 0.99)
    low, high = (pair_losses(a, b, targets, [negative], 8, "all") for negative in (quiet, loud))
    assert low.mask < high.mask
    assert low.accuracy_negative > high.accuracy_negative
    assert low.correspondence == high.correspondence
    moved = quiet.clone()
    moved[:, :2] = 0.7
    assert pair_losses(a, b, targets, [moved], 8, "all").total == low.total


def test_transported_masks_give_the_correspondences_a_gradient_from_the_mask_loss():
    targets = random_targets(1, 1, 4, 5)
    for transport in (True, False):
        a = random_maps(7, 1, 3, 4, 5).requires_grad_()
        pair_losses(a, random_maps(8, 1, 3, 4, 5), targets, [], 0.0, "all", transport).total.backward()
        assert bool(a.grad[:, :2].any()) is transport


def test_an_empty_pair_has_a_finite_loss():
    empty = Targets(*(torch.zeros(1, channels, 4, 4) for channels in (1, 1, 2, 2)))
    output = random_maps(7, 1, 3, 4, 4)
    losses = pair_losses(output, output, empty, [], 8, "all")
    assert losses.total.isfinite() and losses.correspondence == 0
