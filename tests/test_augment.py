"""Thin-plate-spline warps: image, mask and both maps must move together."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from segswap.sampling import cell_centres, sample
from segswap.training.augment import draw_spline, warp_images, warp_targets
from segswap.training.losses import Targets

CASES = ["g4_1obj", "g6_1obj", "g4_2obj", "g6_identity"]
SIZE = 192


def random_spline(seed: int, grid: int = 4, batch: int = 1):
    return draw_spline(torch.rand(batch, grid * grid, 2, generator=torch.Generator().manual_seed(seed)))


def at(positions) -> torch.Tensor:
    """Return points [(x, y), ...] in [0, 1] as positions (1, 2, 1, n)."""
    return torch.tensor(positions, dtype=torch.float32).T[None, :, None]


# Against measurements of kornia 0.9 under the released code


class Measured:
    def __init__(self, shared, case: str) -> None:
        self.case = case
        with np.load(shared / "golden" / "h_tps.npz", allow_pickle=False) as file:
            self.arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        self.spline = draw_spline(self["rand"])
        self.centres = cell_centres(30, 30)[None]

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.arrays[f"{self.case}__{name}"]


@pytest.fixture(params=CASES)
def measured(request, shared):
    return Measured(shared, request.param)


def test_control_points_equal_the_measured_ones(measured):
    torch.testing.assert_close(measured.spline.source, measured["points_src"], atol=1e-6, rtol=0)
    torch.testing.assert_close(measured.spline.moved, measured["points_dst"], atol=1e-6, rtol=0)


def test_flows_equal_the_measured_ones(measured):
    taken = 2 * measured.spline.taken_from(measured.centres) - 1
    torch.testing.assert_close(taken, measured["k09__flow_tps2bg"], atol=5e-6, rtol=0)
    gone = 2 * measured.spline.goes_to(measured.centres, steps=0) - 1
    torch.testing.assert_close(gone, measured["k09__flow_bg2tps"], atol=5e-6, rtol=0)


def test_warped_labels_equal_the_measured_ones(measured):
    mask, corr_a, corr_b = (measured[name][None] for name in ("mask2_in", "xy1_in", "xy2_in"))
    found = warp_targets(Targets(mask[None], mask[None], corr_a, corr_b), measured.spline)
    torch.testing.assert_close(found.mask_b[0], measured["k09__mask2"], atol=1e-5, rtol=0)
    # The released code lets cells without a value, and the outside, take part in the interpolation; ours
    # does not: the two agree where there is nothing of the kind.
    valued = (corr_b != 0).any(dim=1, keepdim=True).float()
    whole = sample(valued, measured.spline.taken_from(measured.centres))[0, 0] > 0.99999
    assert whole.sum() >= 40
    torch.testing.assert_close(found.corr_b[0][:, whole], measured["k09__xy2"][:, whole], atol=1e-5, rtol=0)
    # It also samples the inverse flow at the map's positions, which only interpolates between cells.
    near = ((corr_a > 1 / 30) & (corr_a < 29 / 30)).all(dim=1)[0]
    approximate = measured.spline.goes_to(corr_a, steps=0)[0]
    torch.testing.assert_close(approximate[:, near], measured["k09__xy1"][:, near], atol=4e-3, rtol=0)


def test_warped_images_equal_the_measured_ones(measured):
    image = measured.arrays["image"].permute(2, 0, 1)[None].float() / 255
    found = warp_images(image, measured.spline)[0, :, ::4, ::4]
    difference = (found - measured["k09__image_float"]).abs()
    assert difference.mean() < 1e-3, "noise, the worst case for a flow that is interpolated between pixels"
    assert difference.max() < 0.02


# Properties


def test_the_middle_draw_is_the_identity():
    spline = draw_spline(torch.full((1, 16, 2), 0.5))
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(warp_images(images, spline), images, atol=1e-4, rtol=0)
    maps = [torch.rand(1, n, 8, 8, generator=torch.Generator().manual_seed(n)) for n in (1, 2, 1, 2)]
    targets = Targets(maps[0], maps[2], maps[1], maps[3])
    found = warp_targets(targets, spline)
    for name in ("mask_a", "mask_b", "corr_a", "corr_b"):
        torch.testing.assert_close(getattr(found, name), getattr(targets, name), atol=1e-5, rtol=0)


@pytest.mark.parametrize("grid", [4, 6])
def test_control_points_move_by_half_the_grid_s_share_at_most_and_stay_inside(grid):
    spline = random_spline(2, grid, batch=8)
    assert spline.source.shape == (8, grid * grid, 2)
    assert (spline.moved - spline.source).abs().max() <= 0.5 / grid + 1e-6
    assert spline.moved.abs().max() <= 1
    line = torch.linspace(-1, 1, grid).tolist()
    expected = {(x, y) for x in line for y in line}
    assert {tuple(point) for point in spline.source[0].tolist()} == expected, "a regular grid with the corners"


@pytest.mark.parametrize("grid", [4, 6])
@pytest.mark.parametrize("seed", range(4))
def test_goes_to_inverts_taken_from(grid, seed):
    spline = random_spline(seed, grid)
    # At the very border the clamped points may fold the image over: the inverse is tested inside.
    inner = 0.1 + 0.8 * cell_centres(20, 20)[None]
    exact = (spline.taken_from(spline.goes_to(inner)) - inner).abs()
    approximate = (spline.taken_from(spline.goes_to(inner, steps=0)) - inner).abs()
    assert exact.max() < 0.1 / 30, "a tenth of a cell"
    assert exact.mean() < approximate.mean() / 10


def drawn_point(image: torch.Tensor) -> tuple[float, float]:
    """Return the normalised centre of mass of a bright blob on black, (H, W)."""
    height, width = image.shape
    centres = cell_centres(height, width)
    return tuple(((centres * image).sum((1, 2)) / image.sum()).tolist())


@pytest.mark.parametrize("grid", [4, 6])
@pytest.mark.parametrize("point", [(0.3, 0.25), (0.5, 0.5), (0.72, 0.4), (0.35, 0.8)])
def test_a_drawn_point_follows_the_image_warp_and_both_maps(grid, point):
    spline = random_spline(7, grid)
    canvas = np.zeros((SIZE, SIZE), np.float32)
    centre = tuple(int(v * SIZE) for v in point)
    cv2.circle(canvas, centre, 4, 1.0, -1, cv2.LINE_AA)
    blob = torch.from_numpy(canvas)[None, None]
    before = drawn_point(blob[0, 0])
    after = drawn_point(warp_images(blob, spline)[0, 0])

    moved = max(abs(a - b) for a, b in zip(after, before, strict=True))
    assert moved > 0.3 / 30, "twice the tolerance, or the test tests nothing"
    assert spline.goes_to(at([before])).flatten().tolist() == pytest.approx(after, abs=0.15 / 30)
    assert spline.taken_from(at([after])).flatten().tolist() == pytest.approx(before, abs=0.15 / 30)

    # Every cell of a points at the blob; every cell of b says where itself lies in a (the identity).
    corr_a = at([before]).expand(1, 2, 12, 12)
    identity = cell_centres(12, 12)[None]
    cells = torch.zeros(1, 1, 12, 12)
    found = warp_targets(Targets(cells, cells, corr_a, identity), spline)
    assert found.corr_a[0, :, 0, 0].tolist() == pytest.approx(after, abs=0.15 / 30)
    assert sample(found.corr_b, at([after])).flatten().tolist() == pytest.approx(before, abs=0.5 / 30)


def test_mask_and_image_are_warped_alike():
    spline = random_spline(11)
    blocks = torch.zeros(1, 1, 96, 96)
    blocks[:, :, 32:64, 16:64] = 1
    mask = torch.nn.functional.avg_pool2d(blocks, 16)
    warped = torch.nn.functional.avg_pool2d(warp_images(blocks, spline), 16)
    found = warp_targets(Targets(mask, mask, cell_centres(6, 6)[None], cell_centres(6, 6)[None]), spline)
    overlap = torch.minimum(found.mask_b, warped).sum() / torch.maximum(found.mask_b, warped).sum()
    assert overlap > 0.8, "as much as cells of 16 pixels allow"
    assert torch.equal(found.mask_a, mask)


def test_cells_without_a_value_do_not_pull_the_map():
    spline = random_spline(5)
    corr_b = torch.zeros(1, 2, 30, 30)
    corr_b[:, 0, 10:20, 10:20], corr_b[:, 1, 10:20, 10:20] = 0.8, 0.3
    mask = (corr_b[:, :1] != 0).float()
    found = warp_targets(Targets(mask, mask, corr_b, corr_b), spline)
    inside = (found.corr_b != 0).any(dim=1)[0]
    assert inside.sum() > 80 and not inside.all()
    torch.testing.assert_close(found.corr_b[0, 0][inside], torch.full((int(inside.sum()),), 0.8), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.corr_b[0, 1][inside], torch.full((int(inside.sum()),), 0.3), atol=1e-4, rtol=0)


def test_each_image_of_a_batch_has_its_own_spline():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    random = torch.rand(2, 16, 2, generator=torch.Generator().manual_seed(2))
    together = warp_images(images, draw_spline(random))
    for n in range(2):
        alone = warp_images(images[n : n + 1], draw_spline(random[n : n + 1]))
        torch.testing.assert_close(alone[0], together[n], atol=1e-5, rtol=0)
