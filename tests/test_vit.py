"""Vision transformers: the numbers of transformers' own, under its names and timm's, and what cannot be built."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_backbones import VIT_FORM
from torch import nn
from torch.nn import functional as F
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from segswap.errors import InputError
from segswap.matching.features import backbone_key, preprocessing
from segswap.models import hub
from segswap.models.backbones import backbone_settings, build
from segswap.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.backbones.vit import ViT, ViTSettings
from segswap.models.checkpoint import load_backbone, save_backbone

SMALL = {"hidden_size": 384, "num_attention_heads": 6}
NETWORKS = {
    "DINOv2 small": lambda: Dinov2Model(Dinov2Config(**SMALL, image_size=518)),
    "DINOv2 large, 2 blocks": lambda: Dinov2Model(
        Dinov2Config(hidden_size=1024, num_attention_heads=16, num_hidden_layers=2, image_size=518)
    ),
    "DINOv2, 2 blocks, gated": lambda: Dinov2Model(
        Dinov2Config(**SMALL, num_hidden_layers=2, image_size=224, use_swiglu_ffn=True)
    ),
    "DINOv2 with registers, 3 blocks": lambda: Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**SMALL, num_hidden_layers=3, num_register_tokens=4, image_size=518, patch_size=14)
    ),
    "DINOv2 with no registers but smoothed positions, 2 blocks": lambda: Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**SMALL, num_hidden_layers=2, num_register_tokens=0, image_size=224, patch_size=14)
    ),
    "DINOv3 small": lambda: DINOv3ViTModel(DINOv3ViTConfig(**SMALL, num_register_tokens=4)),
    "DINOv3, 2 blocks, gated": lambda: DINOv3ViTModel(
        DINOv3ViTConfig(**SMALL, num_hidden_layers=2, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu")
    ),
}


def network(name: str) -> nn.Module:
    """Return a network of transformers, all of whose weights are random, layer scales and tokens too."""
    torch.manual_seed(1)
    model = NETWORKS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += (0.3 if parameter.ndim == 1 else 0.03) * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def networks() -> Callable[[str], nn.Module]:
    made: dict[str, nn.Module] = {}
    return lambda name: made.setdefault(name, network(name))


@pytest.fixture
def folder_of(networks, tmp_path) -> Callable[[str], Path]:
    """A function that saves a network as a repository of the hub has it."""

    def saved(name: str) -> Path:
        networks(name).save_pretrained(tmp_path / "repository")
        return tmp_path / "repository"

    return saved


def random_images(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def hidden_states(model: nn.Module, images: torch.Tensor, mean=IMAGENET_MEAN, std=IMAGENET_STD) -> list[torch.Tensor]:
    """Return a library's patch tokens (B, C, h, w) behind each block, its final norm applied to each."""
    h, w = (side // 16 for side in images.shape[2:])
    patch = model.config.patch_size
    if patch != 16:
        images = F.interpolate(images, (h * patch, w * patch), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    out = model((images - mean) / std, output_hidden_states=True)
    norm = model.norm if hasattr(model, "norm") else model.layernorm
    states = [norm(state)[:, -h * w :].transpose(1, 2).unflatten(2, (h, w)) for state in out.hidden_states[1:]]
    last = out.last_hidden_state[:, -h * w :].transpose(1, 2).unflatten(2, (h, w))
    torch.testing.assert_close(states[-1], last)
    return states


def timm_names(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a network of transformers as timm has them.

    Names, shapes and numbers were compared with timm 1.0.31 itself: equal to 5e-7 on random weights.
    """
    state = model.state_dict()
    eva = isinstance(model, DINOv3ViTModel)
    names = {
        "cls_token": state["embeddings.cls_token"],
        "norm.weight": state["norm.weight" if eva else "layernorm.weight"],
        "norm.bias": state["norm.bias" if eva else "layernorm.bias"],
    }
    projection = "embeddings.patch_embeddings" + ("" if eva else ".projection")
    names |= {f"patch_embed.proj.{kind}": state[f"{projection}.{kind}"] for kind in ("weight", "bias")}
    if state.get("embeddings.register_tokens", torch.zeros(1, 0)).shape[1]:
        names["reg_token"] = state["embeddings.register_tokens"]
    if not eva:
        positions = state["embeddings.position_embeddings"]
        if "reg_token" in names:  # timm adds the class token's position to the token
            names["cls_token"], positions = names["cls_token"] + positions[:, :1], positions[:, 1:]
        names["pos_embed"] = positions
    for n in range(model.config.num_hidden_layers):
        theirs, ours = f"{'model' if eva else 'encoder'}.layer.{n}.", f"blocks.{n}."
        attention = {part: f"{theirs}attention.{part}_proj" for part in "qkvo"}
        for norm in ("norm1", "norm2"):
            names |= {f"{ours}{norm}.{kind}": state[f"{theirs}{norm}.{kind}"] for kind in ("weight", "bias")}
        names[f"{ours}attn.qkv.weight"] = torch.cat([state[f"{attention[part]}.weight"] for part in "qkv"])
        if eva:
            names[f"{ours}attn.q_bias"], names[f"{ours}attn.v_bias"] = (
                state[f"{attention[part]}.bias"] for part in "qv"
            )
        else:
            names[f"{ours}attn.qkv.bias"] = torch.cat([state[f"{attention[part]}.bias"] for part in "qkv"])
        for kind in ("weight", "bias"):
            names[f"{ours}attn.proj.{kind}"] = state[f"{attention['o']}.{kind}"]
            if f"{theirs}mlp.fc1.weight" in state:
                layers = {"fc1": state[f"{theirs}mlp.fc1.{kind}"], "fc2": state[f"{theirs}mlp.fc2.{kind}"]}
            else:
                gate, up = (state.get(f"{theirs}mlp.{part}_proj.{kind}") for part in ("gate", "up"))
                layers = {"fc2": state[f"{theirs}mlp.down_proj.{kind}"]}
                if gate is None:
                    layers["fc1"] = up
                elif eva:
                    layers |= {"fc1_g": gate, "fc1_x": up}
                else:
                    layers["fc1"] = torch.cat([gate, up])
            names |= {f"{ours}mlp.{layer}.{kind}": value for layer, value in layers.items()}
        for scale in "12":
            name = f"gamma_{scale}" if eva else f"ls{scale}.gamma"
            names[ours + name] = state[f"{theirs}layer_scale{scale}.lambda1"]
    return names


# Numbers


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("DINOv2 small", (592, 592)),  # of 37 x 37 cells, for which it has positions
        ("DINOv2 small", (96, 160)),
        ("DINOv2 large, 2 blocks", (96, 160)),
        ("DINOv2, 2 blocks, gated", (256, 256)),  # likewise, 16 x 16 cells
        ("DINOv2, 2 blocks, gated", (320, 288)),
        ("DINOv2 with registers, 3 blocks", (96, 160)),
        ("DINOv2 with registers, 3 blocks", (624, 592)),
        ("DINOv3 small", (96, 160)),
        ("DINOv3 small", (224, 224)),
        ("DINOv3, 2 blocks, gated", (320, 96)),
    ],
)
def test_features_are_those_of_the_library(networks, folder_of, name, size):
    images = random_images(*size)
    expected = F.normalize(hidden_states(networks(name), images)[-1], dim=1)
    backbone = load_backbone(folder_of(name), ViTSettings("vit"))
    features = backbone(images)
    assert backbone.channels == features.shape[1] and not features.requires_grad
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["DINOv2, 2 blocks, gated", "DINOv3, 2 blocks, gated"])
def test_the_names_of_a_module_in_memory_are_known_too(networks, tmp_path, name):
    images = random_images(64, 96)
    torch.save(networks(name).state_dict(), tmp_path / "module.pth")
    features = load_backbone(tmp_path / "module.pth", ViTSettings("vit"))(images)
    torch.testing.assert_close(
        features, F.normalize(hidden_states(networks(name), images)[-1], dim=1), atol=1e-4, rtol=0
    )


# timm smooths positions that are brought to another grid; transformers does so where there can be registers.
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("DINOv2, 2 blocks, gated", (256, 256)),
        ("DINOv2 with no registers but smoothed positions, 2 blocks", (96, 160)),
        ("DINOv2 with registers, 3 blocks", (96, 160)),
        ("DINOv3 small", (96, 160)),
        ("DINOv3, 2 blocks, gated", (96, 160)),
    ],
)
def test_weights_under_the_names_of_timm_give_the_same(networks, tmp_path, name, size):
    images = random_images(*size)
    save_file({key: value.clone() for key, value in timm_names(networks(name)).items()}, tmp_path / "timm.safetensors")
    features = load_backbone(tmp_path / "timm.safetensors", ViTSettings("vit"))(images)
    torch.testing.assert_close(
        features, F.normalize(hidden_states(networks(name), images)[-1], dim=1), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("name", ["DINOv2 small", "DINOv3 small"])
def test_taps_are_the_blocks_of_the_library_each_behind_the_final_norm(networks, folder_of, name):
    taps = (3, 7, 10)
    backbone = load_backbone(folder_of(name), ViTSettings("vit", taps))
    images = random_images(64, 80)
    states = hidden_states(networks(name), images)
    expected = F.normalize(torch.cat([F.normalize(states[tap], dim=1) for tap in taps], dim=1), dim=1)
    torch.testing.assert_close(backbone(images), expected, atol=1e-4, rtol=0)
    assert backbone.channels == 3 * 384 and len(backbone.blocks) == 11


def test_a_plain_network_of_timm_is_read_from_its_repository(tmp_path):
    """Patches of 32 pixels, no layer scale, a classifier, colours of its own."""
    model = network("DINOv2, 2 blocks, gated")
    state = {name: value for name, value in timm_names(model).items() if ".ls" not in name}
    state["patch_embed.proj.weight"] = torch.randn(384, 3, 32, 32)
    state |= {"head.weight": torch.zeros(9, 384), "head.bias": torch.zeros(9)}
    save_file({key: value.clone() for key, value in state.items()}, tmp_path / "model.safetensors")
    config = {"architecture": "vit_small_patch32_224", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    backbone = load_backbone(tmp_path, ViTSettings("vit"))
    assert backbone(random_images(32, 48)).shape == (1, 384, 2, 3)
    assert preprocessing(backbone) == (
        "squashed to size, RGB / 255, mean 0.5, 0.5, 0.5 and deviation 0.25, 0.25, 0.25, at 32/16 of the size; "
        "features L2-normalised per cell"
    )


def test_colours_and_heads_are_what_the_repository_says(networks, folder_of):
    folder = folder_of("DINOv3, 2 blocks, gated")
    mean, std = (0.43, 0.411, 0.296), (0.213, 0.156, 0.143)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    backbone = load_backbone(folder, ViTSettings("vit"))
    images = random_images(64, 64)
    expected = hidden_states(networks("DINOv3, 2 blocks, gated"), images, mean, std)[-1]
    torch.testing.assert_close(backbone(images), F.normalize(expected, dim=1), atol=1e-4, rtol=0)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 12}))
    assert load_backbone(folder, ViTSettings("vit")).settings.form.heads == 12


# Files


def tiny(*taps: int, **form) -> ViT:
    torch.manual_seed(2)
    return build(ViTSettings("vit", taps or None, dataclasses.replace(VIT_FORM, **form))).freeze()


@pytest.mark.parametrize("form", [{}, {"grid": None, "gated": True}], ids=str)
def test_a_saved_backbone_is_built_again_from_its_own_file(tmp_path, form):
    backbone = tiny(0, 1, **form)
    assert backbone.settings.form.depth == 2, "as many blocks as are built"
    save_backbone(tmp_path / "backbone.pt", backbone)
    loaded = load_backbone(tmp_path / "backbone.pt", ViTSettings("vit"))
    assert loaded.settings == backbone.settings and backbone_key(loaded) == backbone_key(backbone)
    images = random_images(48, 64)
    assert torch.equal(loaded(images), backbone(images))
    fewer = load_backbone(tmp_path / "backbone.pt", ViTSettings("vit", (0,)))
    torch.testing.assert_close(fewer(images), F.normalize(backbone(images)[:, :64], dim=1), atol=1e-6, rtol=0)
    with pytest.raises(InputError, match=r"backbone.taps: no block 2 to take .*; this vit has 0 to 1"):
        load_backbone(tmp_path / "backbone.pt", ViTSettings("vit", (2,)))


def test_settings_come_back_from_the_values_that_describe_them():
    settings = tiny(1).settings
    assert backbone_settings(json.loads(json.dumps(settings.described()))) == settings
    assert backbone_settings({"architecture": "vit", "width": 64, "projection": None, "taps": None}) == ViTSettings(
        "vit"
    )
    for key in ("width", "projection"):
        with pytest.raises(InputError, match=rf"backbone.{key}: 32, but vit has no {key} to choose"):
            backbone_settings({"architecture": "vit", key: 32})


def test_a_name_of_the_hub_is_its_repository(networks, folder_of, monkeypatch, tmp_path):
    folder, asked = folder_of("DINOv3, 2 blocks, gated"), []

    def download(repository: str, allow_patterns: list[str], **_) -> str:
        asked.append((repository, sorted(allow_patterns)))
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    backbone = load_backbone("somebody/dinov3", ViTSettings("vit"))
    assert asked == [("somebody/dinov3", ["config.json", "model.safetensors", "preprocessor_config.json"])]
    assert backbone.settings == load_backbone(folder, ViTSettings("vit")).settings


# What cannot be built


def changed(networks, tmp_path, change: Callable[[dict[str, torch.Tensor]], object], **config) -> Path:
    """Save DINOv2 under timm's names after a change of its weights, in a folder whose ``config.json`` is given."""
    state = {key: value.clone() for key, value in timm_names(networks("DINOv2, 2 blocks, gated")).items()}
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def without(pattern: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(state: dict[str, torch.Tensor]) -> None:
        for name in [name for name in state if re.search(pattern, name)]:
            del state[name]

    return change


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (without(r"patch_embed"), {}, "no vision transformer whose names are known, which .*; it holds blocks"),
        (without(r"\.ls"), {}, "its weights do not tell which one. Give the folder of its repository in the hub"),
        (without(r"pos_embed"), {}, "its weights do not tell which one"),
        (without(r"pos_embed"), {"architecture": "vit_small_patch16_224"}, "no learned positions, and is not DINOv3"),
        (without("$^"), {"architecture": "vit_base_patch16_rpn_224"}, "vit_base_patch16_rpn_224, which timm may build"),
        (without("$^"), {"hidden_act": "relu"}, "its activation is relu, expected gelu"),
        (without("$^"), {"num_attention_heads": 5}, "384 channels in 5 heads of attention"),
        (without(r"blocks\.1\.attn\.qkv\.bias"), {}, r"Missing: blocks\.1\.attn\.qkv\.bias"),
        (without(r"blocks\.1\.mlp\.fc2"), {}, r"Missing: blocks\.1\.mlp\.fc2\.weight"),
        (lambda state: state.update({"norm_pre.weight": torch.ones(4)}), {}, r"Unexpected: norm_pre\.weight"),
        (lambda state: state.update(pos_embed=state["pos_embed"][:, 3:]), {}, "254 learned positions are those of no"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_weights_that_are_of_no_known_kind_are_an_error_that_says_why(networks, tmp_path, change, config, message):
    with pytest.raises(InputError, match=rf"model\.safetensors: .*{message}"):
        load_backbone(changed(networks, tmp_path, change, **config), ViTSettings("vit"))


def test_weights_of_another_family_are_an_error(tmp_path):
    save_backbone(tmp_path / "resnet.pt", ResNet(ResNetSettings("resnet10", 8)))
    with pytest.raises(InputError, match=r"resnet\.pt: no vision transformer whose names are known.*it holds conv1\.w"):
        load_backbone(tmp_path / "resnet.pt", ViTSettings("vit"))
    save_backbone(tmp_path / "vit.pt", tiny())
    with pytest.raises(InputError, match=r"vit\.pt: .*Missing: conv1\.weight.*Unexpected: prefix_tokens"):
        load_backbone(tmp_path / "vit.pt", ResNetSettings("resnet18"))


def test_without_weights_there_is_nothing_to_build():
    with pytest.raises(InputError, match="a vit is built as its weights say, so it needs a weight file"):
        build(ViTSettings("vit"))
