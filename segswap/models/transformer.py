"""The cross-image transformer: features of two images to where each cell lies in the other, and whether it does.

Published architecture (paper section 3.2) with the published parameter names. The released code runs both
images as one sequence under a (2N x 2N) boolean mask; here they are two sequences, which gives the same
numbers at half the work and lets the fast attention kernels apply.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn
from torch.nn import functional as F

SIZES = {
    # d, heads, blocks, feed forward
    "tiny": (128, 2, 3, 256),
    "small": (256, 2, 3, 256),
    "base": (512, 8, 3, 2048),
    "large": (512, 8, 6, 2048),
}
POSITION_WEIGHT = 0.1
EPSILON = 1e-7
"""Outputs are clamped to [EPSILON, 1 - EPSILON]."""


@dataclasses.dataclass(frozen=True)
class TransformerSettings:
    """Size of the transformer.

    Attributes:
        size: tiny, small (published), base or large.
        channels: channels of the features, C.
        dropout: probability, in the layers and of whole feature channels.
        initialisation: ``published`` (PyTorch's defaults), or ``matching``: see ``_initialise_matching``.
    """

    size: str
    channels: int
    dropout: float = 0.1
    initialisation: str = "published"


def position_code(h: int, w: int, channels: int) -> torch.Tensor:
    """Return the 2-D sine code, float32 (channels, h, w).

    Rows and columns count from 1, scaled to 2 pi; the first half of the channels codes y, the second x; even
    channels are sines, odd ones cosines.
    """
    half = channels // 2
    frequency = 10000 ** (2 * (torch.arange(half, dtype=torch.float32) // 2) / half)

    def code(n: int) -> torch.Tensor:
        position = torch.arange(1, n + 1, dtype=torch.float32) / (n + 1e-6) * 2 * math.pi
        angle = position[:, None] / frequency
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)

    y = code(h).T[:, :, None].expand(half, h, w)
    x = code(w).T[:, None, :].expand(half, h, w)
    return torch.cat([y, x])


class _Attention(nn.Module):
    """Multi-head attention with the parameters of ``nn.MultiheadAttention``, on fused kernels."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: torch.Tensor, memory: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        """Attend from query (B, N, d) to memory (B, M, d); ``keep`` (B, 1, 1, M) is False on ignored keys."""
        width = query.shape[-1]

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        if query is memory:
            q, k, v = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            q = F.linear(query, self.in_proj_weight[:width], self.in_proj_bias[:width])
            k, v = F.linear(memory, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(
            heads(q), heads(k), heads(v), attn_mask=keep, dropout_p=self.dropout if self.training else 0.0
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _EncoderLayer(nn.Module):
    """A post-norm transformer layer with the names of ``nn.TransformerEncoderLayer``."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = _Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, feed_forward)
        self.linear2 = nn.Linear(feed_forward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x, memory, keep)))
        hidden = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm2(x + self.dropout(hidden))


class _Inner(nn.Module):
    """Layer I: each image attends to itself, its position code added first."""

    def __init__(self, *sizes: float) -> None:
        super().__init__()
        self.inner_encoder_layer = _EncoderLayer(*sizes)

    def forward(self, x, y, code_x, code_y, keep_x, keep_y):
        x, y = x + code_x, y + code_y
        return self.inner_encoder_layer(x, x, keep_x), self.inner_encoder_layer(y, y, keep_y)


class _Cross(nn.Module):
    """Layer C: each image attends to the other only, both from the same state."""

    def __init__(self, *sizes: float) -> None:
        super().__init__()
        self.cross_encoder_layer = _EncoderLayer(*sizes)

    def forward(self, x, y, code_x, code_y, keep_x, keep_y):
        return self.cross_encoder_layer(x, y, keep_y), self.cross_encoder_layer(y, x, keep_x)


class _Nothing(nn.Module):
    """Layer N: leaves both images as they are."""

    def forward(self, x, y, code_x, code_y, keep_x, keep_y):
        return x, y


class _Block(nn.Module):
    def __init__(self, layer1: nn.Module, layer2: nn.Module) -> None:
        super().__init__()
        self.layer1, self.layer2 = layer1, layer2


class _Net(nn.Module):
    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        width, heads, blocks, feed_forward = SIZES[settings.size]
        sizes = (width, heads, feed_forward, settings.dropout)
        self.feat_proj = nn.Conv2d(settings.channels, width, 1)
        self.encoder_blocks = nn.ModuleList(
            _Block(_Inner(*sizes), _Cross(*sizes) if n < blocks - 1 else _Nothing()) for n in range(blocks)
        )
        self.final_linear = nn.Conv2d(width, 3, 1)


class Transformer(nn.Module):
    """The cross-image transformer; parameter names are those of the published checkpoint (``net....``).

    Attributes:
        compilable: whether ``torch.compile`` takes it.
    """

    compilable = True

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.net = _Net(settings)
        self.width = SIZES[settings.size][0]
        self.feature_dropout = nn.Dropout2d(settings.dropout)
        self._codes: dict[tuple[int, int, torch.device], torch.Tensor] = {}
        if settings.initialisation == "matching":
            self._initialise_matching()

    @torch.no_grad()
    def _initialise_matching(self) -> None:
        """Start as a matcher of features: tokens without bias, and queries projected as keys are.

        With PyTorch's defaults a token is mostly bias and position, and cross attention is at first blind to
        likeness; it takes long until it looks for the same content. With one projection for queries and
        keys, attention grows with the features' inner product from the first step. The gains give tokens
        about the size of the position code, and attention a spread of about one.
        """
        projection = self.net.feat_proj
        nn.init.orthogonal_(projection.weight.view(self.width, -1), gain=0.6)
        nn.init.zeros_(projection.bias)
        for block in self.net.encoder_blocks:
            if isinstance(block.layer2, _Cross):
                weight = block.layer2.cross_encoder_layer.self_attn.in_proj_weight
                nn.init.orthogonal_(weight[: self.width], gain=1.4)
                weight[self.width : 2 * self.width] = weight[: self.width]

    @torch.no_grad()
    def rescale_masks(self, threshold: float, slope: float = 1.0) -> None:
        """Change all masks for good: what was ``threshold``, in (0, 1), becomes .5.

        Args:
            threshold: of the masks as they are.
            slope: factor on their logits, above 0; above 1 little becomes less and much becomes more.
        """
        head = self.net.final_linear
        head.bias[2] -= math.log(threshold / (1 - threshold))
        head.bias[2] *= slope
        head.weight[2] *= slope

    def _code(self, features: torch.Tensor) -> torch.Tensor:
        """Return the weighted position code of a feature map as tokens (1, h * w, d)."""
        h, w, device = *features.shape[-2:], features.device

        def code() -> torch.Tensor:
            return (POSITION_WEIGHT * position_code(h, w, self.width)).flatten(1).T[None].to(device)

        # A compiled or exported graph computes it, for any size.
        if torch.compiler.is_compiling():
            return code()
        if (h, w, device) not in self._codes:
            self._codes[h, w, device] = code()
        return self._codes[h, w, device]

    def forward(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        x_hidden: torch.Tensor | None = None,
        y_hidden: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Match two batches of images.

        Args:
            x: features (B, C, hx, wx). y: features (B, C, hy, wy).
            x_hidden, y_hidden: bool (B, 1, h, w), True where a cell is hidden: it is ignored as a key. A
                sample whose cells are all hidden is treated as if none were.

        Returns:
            (B, 3, hx, wx) and (B, 3, hy, wy): channels x and y (normalised position in the other image)
            and mask, in [1e-7, 1 - 1e-7].
        """
        tokens_x, tokens_y = self._tokens(x), self._tokens(y)
        context = (self._code(x), self._code(y), _kept_keys(x_hidden), _kept_keys(y_hidden))
        for block in self.net.encoder_blocks:
            tokens_x, tokens_y = block.layer1(tokens_x, tokens_y, *context)
            tokens_x, tokens_y = block.layer2(tokens_x, tokens_y, *context)
        return self._output(tokens_x, x.shape[-2:]), self._output(tokens_y, y.shape[-2:])

    def _tokens(self, features: torch.Tensor) -> torch.Tensor:
        return self.feature_dropout(self.net.feat_proj(features)).flatten(2).transpose(1, 2)

    def _output(self, tokens: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        maps = self.net.final_linear(tokens.transpose(1, 2).unflatten(2, shape))
        # In float32, also where products are not: 1 - EPSILON is 1 in fewer digits.
        return maps.float().sigmoid().clamp(EPSILON, 1 - EPSILON)


def _kept_keys(hidden: torch.Tensor | None) -> torch.Tensor | None:
    """Turn hidden cells (B, 1, h, w) into kept keys (B, 1, 1, h * w); None where nothing is hidden."""
    if hidden is None:
        return None
    hidden = hidden.flatten(1)
    hidden = hidden & ~hidden.all(dim=1, keepdim=True)
    return ~hidden[:, None, None, :]
