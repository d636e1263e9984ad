"""Vision transformers whose patches are the cells: DINOv2 with and without registers, DINOv3, and plain ones.

One architecture, ``vit``: which one is built stands in the weights. Their names may be those of Hugging Face's
``transformers`` (DINOv2, DINOv3) or of ``timm`` (these and others that have nothing else); neither package is needed.

Sources: Dosovitskiy et al. 2021 (ViT), Oquab et al. 2023 (DINOv2), Darcet et al. 2024 (registers), Simeoni et al. 2025
(DINOv3: rotary positions).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from segswap.errors import InputError
from segswap.models.backbones.backbone import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    BackboneSettings,
    State,
    WeightFile,
    checked_taps,
    joined,
)

_CELL = 16


@dataclasses.dataclass(frozen=True)
class ViTForm:
    """What is built; weights say it.

    Attributes:
        width: channels of a token. depth: number of blocks. heads: of attention.
        hidden: channels inside the MLP. gated: whether that is SwiGLU; else GELU.
        patch: side of a patch in pixels. prefix: tokens that are no patches: class token, registers.
        grid: side of the grid of learned positions; None where positions are rotary.
        antialias: whether learned positions are smoothed where they are brought to a smaller grid.
        rotary_base: of rotary positions, the largest period.
        final_norm: whether a layer norm follows the blocks. epsilon: of every layer norm.
        mean, std: of the colours of pictures, RGB in [0, 1].
    """

    width: int
    depth: int
    heads: int
    hidden: int
    gated: bool
    patch: int
    prefix: int
    grid: int | None
    antialias: bool
    rotary_base: float
    final_norm: bool
    epsilon: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))


@dataclasses.dataclass(frozen=True)
class ViTSettings(BackboneSettings):
    """Which vision transformer.

    Attributes:
        architecture: vit.
        taps: numbers of the blocks whose outputs are the features, ascending from 0. None: as the file of weights says,
            else the last block.
        form: what is built. None: as the weights say.
    """

    taps: tuple[int, ...] | None = None
    form: ViTForm | None = None

    def __post_init__(self) -> None:
        if self.taps is not None:
            object.__setattr__(self, "taps", tuple(self.taps))
        if isinstance(self.form, Mapping):
            object.__setattr__(self, "form", ViTForm(**self.form))


class _Attention(nn.Module):
    def __init__(self, form: ViTForm) -> None:
        super().__init__()
        self.heads = form.heads
        self.qkv = nn.Linear(form.width, 3 * form.width)
        self.proj = nn.Linear(form.width, form.width)

    def forward(self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            q, k = (_turned(each, *rotation).to(v.dtype) for each in (q, k))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each channel of the first half together with its partner in the second half, by the angles of its token."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class _MLP(nn.Module):
    def __init__(self, form: ViTForm) -> None:
        super().__init__()
        self.gated = form.gated
        self.fc1 = nn.Linear(form.width, form.hidden * (2 if form.gated else 1))
        self.fc2 = nn.Linear(form.hidden, form.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc1(x)
        if self.gated:
            gate, x = x.chunk(2, dim=-1)
            return self.fc2(F.silu(gate) * x)
        return self.fc2(F.gelu(x))


class _Block(nn.Module):
    def __init__(self, form: ViTForm) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(form.width, form.epsilon), _Attention(form)
        self.norm2, self.mlp = nn.LayerNorm(form.width, form.epsilon), _MLP(form)

    def forward(self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), rotation)
        return x + self.mlp(self.norm2(x))


class ViT(Backbone):
    """A vision transformer to the last block that features are taken from; later blocks are not built.

    The features of a cell are its patch's tokens behind the tapped blocks. The final layer norm of the network is
    applied to each of them, as the libraries do with the last hidden state; then each is L2-normalised, and the whole.

    A network with patches of p pixels sees the picture at p/16 of its size (bilinear, antialiased), so that its patches
    are the cells of 16 pixels. Learned positions are brought to the picture's grid bicubically.
    """

    architectures = ("vit",)
    settings_type = ViTSettings

    def __init__(self, settings: ViTSettings) -> None:
        super().__init__()
        form = settings.form
        if form is None:
            raise InputError("backbone.architecture: a vit is built as its weights say, so it needs a weight file")
        taps = [form.depth - 1] if settings.taps is None else settings.taps
        taps = checked_taps(taps, range(form.depth), "this vit")
        form = dataclasses.replace(form, depth=taps[-1] + 1)
        self.settings: ViTSettings = dataclasses.replace(settings, taps=taps, form=form)
        self.channels = form.width * len(taps)
        size = "" if form.patch == _CELL else f", at {form.patch}/{_CELL} of the size"
        self.normalisation = f"mean {_listed(form.mean)} and deviation {_listed(form.std)}{size}"

        self.patch_embed = nn.Conv2d(3, form.width, form.patch, form.patch)
        self.prefix_tokens = nn.Parameter(torch.zeros(1, form.prefix, form.width))
        if form.grid is None:
            count = form.width // form.heads // 4
            self.register_buffer("frequencies", form.rotary_base ** -(torch.arange(count) / count), persistent=False)
        else:
            self.pos_embed = nn.Parameter(0.02 * torch.randn(1, form.grid**2, form.width))
        self.blocks = nn.ModuleList(_Block(form) for _ in range(form.depth))
        self.norm = nn.LayerNorm(form.width, form.epsilon) if form.final_norm else nn.Identity()
        self.register_buffer("mean", torch.tensor(form.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(form.std)[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        form = self.settings.form
        h, w = (side // _CELL for side in images.shape[2:])
        if form.patch != _CELL:
            images = F.interpolate(images, (h * form.patch, w * form.patch), mode="bilinear", antialias=True)
        x = self.patch_embed((images - self.mean) / self.std).flatten(2).transpose(1, 2)
        if form.grid is not None:
            x = x + self._positions(h, w)
        rotation = self._rotation(h, w) if form.grid is None else None
        x = torch.cat([self.prefix_tokens.expand(x.shape[0], -1, -1), x], dim=1)
        taps = []
        for number, block in enumerate(self.blocks):
            x = block(x, rotation)
            if number in self.settings.taps:
                taps.append(self.norm(x[:, form.prefix :]).transpose(1, 2).unflatten(2, (h, w)))
        return joined(taps)

    def _positions(self, h: int, w: int) -> torch.Tensor:
        """Return the learned positions of a grid, (1, h * w, C)."""
        form = self.settings.form
        positions = self.pos_embed.transpose(1, 2).unflatten(2, (form.grid, form.grid))
        resized = F.interpolate(positions, (h, w), mode="bicubic", antialias=form.antialias)
        return resized.flatten(2).transpose(1, 2)

    def _rotation(self, h: int, w: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosine and sine of every token's angles, (tokens, C / heads) each; prefix tokens are not turned.

        Positions run from -1 to 1 on both axes, whatever the size; the first half of the angles are those of y.
        """
        device = self.frequencies.device
        y, x = ((2 * torch.arange(n, device=device) + 1) / n - 1 for n in (h, w))
        places = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flatten(0, 1)
        angles = 2 * math.pi * (places[:, :, None] * self.frequencies).flatten(1).repeat(1, 2)
        angles = F.pad(angles, (0, 0, self.settings.form.prefix, 0))
        return angles.cos(), angles.sin()

    @classmethod
    def completed(cls, settings: ViTSettings, file: WeightFile) -> ViTSettings:
        if isinstance(file.settings, ViTSettings):
            return dataclasses.replace(
                settings, taps=file.settings.taps if settings.taps is None else settings.taps, form=file.settings.form
            )
        return dataclasses.replace(settings, form=_read_form(file))

    def own_names(self, state: State) -> State:
        """Rename, put together what libraries keep apart, and drop heads and the blocks behind the last tap."""
        if "prefix_tokens" not in state:
            state = _merged(_renamed(state))
        late = re.compile(r"blocks\.(\d+)\.")
        return {
            name: value
            for name, value in state.items()
            if not (block := late.match(name)) or int(block[1]) < len(self.blocks)
        }


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


# Weights of the libraries

# From names of transformers and of timm to one set of names, which is nearly timm's.
_NAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^dinov2(_with_registers)?\.", ""),
        (r"^(encoder\.|model\.)?layer\.", "blocks."),
        (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed."),
        (r"^embeddings\.register_tokens$", "reg_token"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.", ""),
        (r"^layernorm\.", "norm."),
        (r"\.attention\.attention\.([qkv])(uery|ey|alue)\.", r".attn.\1."),
        (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
        (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
        (r"\.layer_scale([12])\.lambda1$", r".ls\1"),
        (r"\.mlp\.(weights_out|down_proj)\.", ".mlp.fc2."),
        (r"\.mlp\.weights_in\.", ".mlp.fc1."),
        (r"\.mlp\.(gate_proj|fc1_g)\.", ".mlp.gate."),
        (r"\.mlp\.(up_proj|fc1_x)\.", ".mlp.up."),
        (r"^patch_embed\.proj\.", "patch_embed."),
        (r"\.attn\.([qkv])_(proj\.)?(weight|bias)$", r".attn.\1.\3"),
        (r"\.(ls([12])\.gamma|gamma_([12]))$", r".ls\2\3"),
    )
]
_UNUSED = ("mask_token", "head.", "classifier.", "fc_norm.")


def _renamed(state: State) -> State:
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in _NAMES:
            name = pattern.sub(replacement, name)
        if not name.startswith(_UNUSED):
            renamed[name] = value
    return renamed


def _merged(state: State) -> State:
    """Return renamed weights as ``ViT`` has them.

    Queries, keys and values are one layer, and so are gate and input of a gated MLP. Layer scale goes into the weights
    that it scales, the position of a token that is no patch into the token.
    """
    merged = {name: value.float() for name, value in state.items()}
    # DINOv3 has no bias of the keys, timm's version none at all; every block is as the first.
    whole = "blocks.0.attn.qkv.bias" in state
    biased = {part for part in "qkv" if whole or f"blocks.0.attn.{part}.bias" in state}
    for number in range(_depth(state)):
        attn, mlp = f"blocks.{number}.attn", f"blocks.{number}.mlp"
        for part in set("qkv") - biased:
            merged[f"{attn}.{part}.bias"] = torch.zeros(_width(state))
        is_gated = f"{mlp}.gate.weight" in merged
        for kind in ("weight", "bias"):
            _join(merged, f"{attn}.qkv.{kind}", [f"{attn}.{part}.{kind}" for part in "qkv"])
            _join(merged, f"{mlp}.fc1.{kind}", [f"{mlp}.{part}.{kind}" for part in ("gate", "up")[not is_gated :]])
            for scale, scaled in (("ls1", f"{attn}.proj.{kind}"), ("ls2", f"{mlp}.fc2.{kind}")):
                factor = merged.get(f"blocks.{number}.{scale}")
                if factor is not None and scaled in merged:
                    merged[scaled] = merged[scaled] * (factor[:, None] if kind == "weight" else factor)
        for scale in ("ls1", "ls2"):
            merged.pop(f"blocks.{number}.{scale}", None)
    tokens = torch.cat([torch.zeros(1, 0, _width(state)), *(merged.pop(n) for n in _PREFIX if n in merged)], dim=1)
    if "pos_embed" in merged:
        placed, _ = _grid(merged["pos_embed"].shape[1], tokens.shape[1])
        tokens[:, :placed] += merged["pos_embed"][:, :placed]
        merged["pos_embed"] = merged["pos_embed"][:, placed:]
    return {**merged, "prefix_tokens": tokens}


_PREFIX = ("cls_token", "reg_token")


def _join(state: State, whole: str, parts: list[str]) -> None:
    """Put layers together, one below the other, where all of them are there."""
    if all(part in state for part in parts):
        state[whole] = torch.cat([state.pop(part) for part in parts])


def _width(state: State) -> int:
    return len(state["patch_embed.weight"])


def _depth(state: State) -> int:
    return 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))


def _grid(positions: int, prefix: int) -> tuple[int, int]:
    """Return how many positions are of tokens that are no patches, and the side of the square grid of the others.

    All of these tokens have one, or the class token alone, or none; only one of it leaves a square.

    Raises:
        ValueError: when nothing does.
    """
    for placed in {0, 1, prefix}:
        side = math.isqrt(max(positions - placed, 0))
        if side and side**2 == positions - placed <= positions and placed <= prefix:
            return placed, side
    raise ValueError(f"{positions} learned positions are those of no square grid")


# Networks of timm that are built as here, with heads of 64 channels. Others may have equal names and another order.
_TIMM = re.compile(
    r"vit_(small|base|large|giant)_patch14_(reg4_)?dinov2"
    r"|vit_(tiny|small|base|large|huge)(_plus)?_patch16_dinov3(_qkvb)?"
    r"|(vit|deit3?)_(tiny|small|base|large)_patch\d+_\d+"
)


def _read_form(file: WeightFile) -> ViTForm:
    """Return what the weights of a library are of; a repository's own description counts where the weights say nothing.

    Raises:
        InputError: when they are of no vision transformer that can be built.
    """
    state = _renamed(file.state)
    if not {"patch_embed.weight", "blocks.0.mlp.fc2.weight"} <= state.keys():
        raise InputError(
            f"{file.origin}: no vision transformer whose names are known, which are those of DINOv2 and DINOv3 in "
            f"transformers and of vit models in timm; it holds {', '.join(list(file.state)[:6])}, ..."
        )
    try:
        return _form(file, state)
    except ValueError as error:
        raise InputError(f"{file.origin}: a vision transformer that cannot be built here: {error}") from None


def _form(file: WeightFile, state: State) -> ViTForm:
    config = file.config
    width, hidden = state["blocks.0.mlp.fc2.weight"].shape
    patch = state["patch_embed.weight"].shape[-1]
    prefix = sum(state[name].shape[1] for name in _PREFIX if name in state)
    grid = _grid(state["pos_embed"].shape[1], prefix)[1] if "pos_embed" in state else None
    is_gated = "blocks.0.mlp.gate.weight" in state
    if "blocks.0.mlp.fc1.weight" in state:
        is_gated = len(state["blocks.0.mlp.fc1.weight"]) == 2 * hidden
    is_dino = "blocks.0.ls1" in state and "norm.weight" in state and (patch == 14 if grid else prefix > 1)
    is_timm = not any("embeddings." in name for name in file.state)
    if is_timm and "architecture" in config and not _TIMM.fullmatch(config["architecture"]):
        raise ValueError(f"config.json says {config['architecture']}, which timm may build in another way")
    if is_timm and "architecture" not in config and not is_dino:
        raise ValueError(
            "its weights do not tell which one. Give the folder of its repository in the hub, with model.safetensors "
            "and config.json, or the name owner/model"
        )
    if grid is None and not is_dino:
        raise ValueError("it has no learned positions, and is not DINOv3")
    heads = config.get("num_attention_heads", width // 64)
    if not heads or width % (4 * heads):
        raise ValueError(f"{width} channels in {heads} heads of attention")
    # DINOv2's gated MLP is SwiGLU whatever its configuration says.
    activation = "silu" if is_gated and grid is None else "gelu"
    if config.get("hidden_act", activation) != activation:
        raise ValueError(f"its activation is {config['hidden_act']}, expected {activation}")
    # What a repository says of colours: transformers in preprocessor_config.json, timm in config.json.
    timm = config.get("pretrained_cfg", {})
    return ViTForm(
        width=width,
        depth=_depth(state),
        heads=heads,
        hidden=hidden,
        gated=is_gated,
        patch=patch,
        prefix=prefix,
        grid=grid,
        # As the libraries do: transformers does not for DINOv2 without registers.
        antialias=is_timm or prefix > 1,
        rotary_base=config.get("rope_theta", 100.0),
        final_norm="norm.weight" in state,
        epsilon=config.get("layer_norm_eps", 1e-5 if grid is None else 1e-6),
        mean=config.get("image_mean", timm.get("mean", IMAGENET_MEAN)),
        std=config.get("image_std", timm.get("std", IMAGENET_STD)),
    )
