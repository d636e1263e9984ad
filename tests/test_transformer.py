"""The cross-image transformer: the published arithmetic and what must hold for any weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from formula_weights import formula_state, key_list
from torch.nn import functional as F

from segswap.models.transformer import EPSILON, SIZES, Transformer, TransformerSettings, position_code

ENCODERS = {
    ("small", 1024): "encoder_small_1024",
    ("tiny", 64): "encoder_tiny_64",
    ("base", 1024): "encoder_base_1024",
    ("large", 1024): "encoder_large_1024_ICICICICICIN",
}
CHANNELS = 12


def formula_transformer(shared, size: str, channels: int) -> Transformer:
    model = Transformer(TransformerSettings(size, channels)).eval()
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    # The list of small with 64 channels is not stored; a key's fill does not depend on the shape.
    fills = {entry["key"]: entry["fill"] for entry in key_list(shared, "encoder_small_1024")}
    model.load_state_dict(
        formula_state([{"key": key, "shape": shape, "fill": fills[key]} for key, shape in shapes.items()])
    )
    return model


def random_transformer(initialisation: str = "published") -> Transformer:
    torch.manual_seed(4)
    return Transformer(TransformerSettings("tiny", CHANNELS, initialisation=initialisation)).eval()


def features(seed: int, batch: int, h: int, w: int) -> torch.Tensor:
    return F.normalize(torch.randn(batch, CHANNELS, h, w, generator=torch.Generator().manual_seed(seed)), dim=1)


def assert_same(found, expected, tolerance=1e-6):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


# Against measurements of the published architecture


@pytest.mark.parametrize(("size", "channels"), ENCODERS)
def test_names_and_shapes_are_the_published_ones(shared, size, channels):
    with torch.device("meta"):
        state = Transformer(TransformerSettings(size, channels)).state_dict()
    entries = key_list(shared, ENCODERS[size, channels])
    assert {key: list(value.shape) for key, value in state.items()} == {e["key"]: e["shape"] for e in entries}


@pytest.mark.parametrize("case", ["tiny_64", "small_64", "small_1024"])
@pytest.mark.parametrize("hidden", ["nomask", "mask"])
@torch.no_grad()
def test_outputs_equal_the_measured_ones(shared, case, hidden):
    size, channels = case.split("_")
    model = formula_transformer(shared, size, int(channels))
    with np.load(shared / "golden" / "a_encoder.npz", allow_pickle=False) as file:
        of = {name: torch.from_numpy(file[f"{case}_{hidden}__{name}"]) for name in ("x", "y", "outx", "outy")}
        masks = [torch.from_numpy(file[f"{case}_{hidden}__{side}_mask"]) for side in "xy"] if hidden == "mask" else []
    assert_same(model(of["x"], of["y"], *masks), (of["outx"], of["outy"]), 1e-5)


@torch.no_grad()
def test_outputs_equal_the_measured_ones_at_the_published_size(shared):
    def unit(seed, h, w):
        values = np.random.default_rng(seed).standard_normal((1, 1024, h, w)).astype(np.float32)
        return torch.from_numpy(values / np.linalg.norm(values, axis=1, keepdims=True))

    x, y = unit(11, 30, 30), unit(12, 30, 40)
    with np.load(shared / "golden" / "a_encoder_30.npz", allow_pickle=False) as file:
        np.testing.assert_allclose(x.flatten()[:8], file["x_first8"], atol=1e-7)
        np.testing.assert_allclose(y.flatten()[:8], file["y_first8"], atol=1e-7)
        expected = torch.from_numpy(file["outx"]), torch.from_numpy(file["outy"])
    assert_same(formula_transformer(shared, "small", 1024)(x, y), expected, 1e-5)


def test_position_code_equals_the_measured_one(shared):
    with np.load(shared / "golden" / "a_posenc.npz", allow_pickle=False) as file:
        np.testing.assert_allclose(position_code(5, 7, 256), file["pos_5x7"], atol=1e-5)
        np.testing.assert_allclose(position_code(30, 40, 256)[::16], file["pos_30x40"], atol=1e-5)


# Properties


def test_position_code_tells_rows_by_its_first_half_and_columns_by_its_second():
    code = position_code(5, 7, 64)
    assert code.shape == (64, 5, 7)
    assert torch.equal(code[:32], code[:32, :, :1].expand(-1, -1, 7))
    assert torch.equal(code[32:], code[32:, :1].expand(-1, 5, -1))
    assert len(code.flatten(1).unique(dim=1).T) == 35, "no two cells share a code"


@pytest.mark.parametrize("initialisation", ["published", "matching"])
@torch.no_grad()
def test_swapping_the_inputs_swaps_the_outputs(initialisation):
    model = random_transformer(initialisation)
    x, y = features(1, 2, 4, 6), features(2, 2, 5, 3)
    hidden_x = torch.rand(2, 1, 4, 6, generator=torch.Generator().manual_seed(3)) < 0.4
    there, back = model(x, y), model(y, x)
    assert_same(there, back[::-1])
    assert_same(model(x, y, hidden_x, None), model(y, x, None, hidden_x)[::-1])


@pytest.mark.parametrize("initialisation", ["published", "matching"])
@torch.no_grad()
def test_a_pair_is_matched_alike_alone_and_in_a_batch(initialisation):
    model = random_transformer(initialisation)
    x, y = features(1, 3, 4, 6), features(2, 3, 5, 3)
    hidden = torch.rand(3, 1, 5, 3, generator=torch.Generator().manual_seed(3)) < 0.4
    together = model(x, y, None, hidden)
    for n in range(3):
        one = slice(n, n + 1)
        assert_same(model(x[one], y[one], None, hidden[one]), [output[one] for output in together])


@torch.no_grad()
def test_hidden_cells_have_no_influence_on_the_other_cells():
    model = random_transformer("matching")
    x, y = features(1, 2, 4, 6), features(2, 2, 5, 3)
    hidden = torch.zeros(2, 1, 5, 3, dtype=torch.bool)
    hidden[:, :, 2:] = True
    changed = torch.where(hidden, features(9, 2, 5, 3), y)
    before, after = model(x, y, None, hidden), model(x, changed, None, hidden)
    assert_same([before[0], before[1][:, :, :2]], [after[0], after[1][:, :, :2]])
    assert (model(x, y)[0] - model(x, changed)[0]).abs().max() > 1e-4, "they have some when they are not hidden"


@torch.no_grad()
def test_a_sample_with_all_cells_hidden_counts_as_one_with_none_hidden():
    model = random_transformer()
    x, y = features(1, 2, 4, 6), features(2, 2, 5, 3)
    hidden = torch.zeros(2, 1, 5, 3, dtype=torch.bool)
    hidden[0] = True
    found = model(x, y, None, hidden)
    assert all(output.isfinite().all() for output in found)
    assert_same(found, model(x, y))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_outputs_have_each_image_s_own_grid_and_lie_in_the_open_unit_interval(size):
    model = Transformer(TransformerSettings(size, CHANNELS)).eval()
    model.net.final_linear.weight.mul_(1e4)
    to_y, to_x = model(features(1, 2, 4, 6), features(2, 2, 7, 3))
    assert to_y.shape == (2, 3, 4, 6)
    assert to_x.shape == (2, 3, 7, 3)
    for output in (to_y, to_x):
        assert output.min() >= EPSILON * 0.99 and output.max() < 1
    assert min(to_y.min(), to_x.min()) < 1e-6, "saturated, so the bounds were tested"


@torch.no_grad()
def test_matching_initialisation_looks_for_the_same_content_from_the_first_step():
    model = random_transformer("matching")
    for block in model.net.encoder_blocks[:-1]:
        weight = block.layer2.cross_encoder_layer.self_attn.in_proj_weight
        assert torch.equal(weight[: model.width], weight[model.width : 2 * model.width])
    assert not model.net.feat_proj.bias.any()
    assert random_transformer().net.feat_proj.bias.any(), "the published one keeps PyTorch's defaults"


def test_dropout_acts_in_training_only_and_follows_the_seed():
    model = random_transformer()
    x, y = features(1, 1, 4, 6), features(2, 1, 5, 3)
    assert_same(model(x, y), model(x, y), 0)
    model.train()

    def drawn(seed):
        torch.manual_seed(seed)
        return model(x, y)[0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_every_parameter_gets_a_gradient():
    model = random_transformer()
    first, second = model(features(1, 1, 4, 6), features(2, 1, 5, 3))
    (first.square().mean() + second.square().mean()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
