"""AdaIN style transfer (Huang and Belongie 2017): VGG-19 to relu4_1, statistics exchange, learned decoder.

Layer names follow the public weight files ``vgg_normalised.pth`` and ``decoder.pth``, which are plain state
dicts of two ``nn.Sequential`` modules; both load by name, strictly.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from segswap.device import autocast, pick_precision
from segswap.errors import InputError
from segswap.images import resize
from segswap.weights import load_by_name, read_state_dict

_SHORTER_SIDE = 512
"""Content and style are resized to this shorter side (published)."""

_GPU_BATCH = 16
"""Pictures restyled at once on a GPU; a smaller last batch is filled up, so that a picture's bytes do not depend on the
batch that it is in."""

_LAYERS_IN_FILE = 53
"""Children of the network in ``vgg_normalised.pth``, which goes on to relu5_4."""


def _convolution(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(1), nn.Conv2d(channels_in, channels_out, 3), nn.ReLU()]


def _vgg() -> nn.Sequential:
    """VGG-19 up to relu4_1 as 31 children: a 1x1 convolution that normalises, then the padded 3x3 stages."""
    layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    channels = 3
    for stage, (width, depth) in enumerate(((64, 2), (128, 2), (256, 4), (512, 1))):
        if stage:
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        for _ in range(depth):
            layers += _convolution(channels, width)
            channels = width
    return nn.Sequential(*layers)


def _decoder() -> nn.Sequential:
    """The encoder mirrored: nearest-neighbour up-sampling in the place of pooling, no ReLU at the end."""
    layers: list[nn.Module] = [*_convolution(512, 256), nn.Upsample(scale_factor=2, mode="nearest")]
    layers += [m for _ in range(3) for m in _convolution(256, 256)] + _convolution(256, 128)
    layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
    layers += _convolution(128, 128) + _convolution(128, 64)
    layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
    layers += _convolution(64, 64) + _convolution(64, 3)[:-1]
    return nn.Sequential(*layers)


def channel_statistics(features: torch.Tensor, epsilon: float = 1e-5) -> torch.Tensor:
    """Return mean and standard deviation over space of features (B, C, H, W) as (B, 2, C)."""
    flat = features.flatten(2)
    return torch.stack([flat.mean(2), (flat.var(2) + epsilon).sqrt()], dim=1)


def exchange_statistics(features: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """Give features (B, C, H, W) the means and deviations of a style (B, 2, C)."""
    content = channel_statistics(features)[..., None, None]
    style = style[..., None, None]
    return (features - content[:, 0]) / content[:, 1] * style[:, 1] + style[:, 0]


class AdaIN(nn.Module):
    """Encoder and decoder with the ``Stylist`` interface of ``segswap.pairs.style``."""

    def __init__(self, precision: str = "float32") -> None:
        """Build the networks, weights not loaded.

        Args:
            precision: of the convolutions when pictures are restyled: ``float32``, ``float16`` or ``bfloat16``.
        """
        super().__init__()
        self.vgg, self.decoder = _vgg(), _decoder()
        self.precision = precision

    @classmethod
    def load(
        cls, vgg: str | os.PathLike, decoder: str | os.PathLike, device: str | torch.device, precision: str = "auto"
    ) -> AdaIN:
        """Load the public weight files; entries of VGG beyond relu4_1 are dropped.

        Args:
            vgg, decoder: the files.
            device: torch device.
            precision: as above, or ``auto``: ``float32`` on a CPU and ``float16`` on a GPU.

        Raises:
            InputError: when a file is missing or its entries do not fit; the message lists them.
        """
        model = cls(pick_precision(precision, torch.device(device), on_gpu="float16"))
        state = read_state_dict(vgg)
        beyond = {str(layer) for layer in range(len(model.vgg), _LAYERS_IN_FILE)}
        kept = {key: value for key, value in state.items() if key.split(".")[0] not in beyond}
        load_by_name(model.vgg, kept, vgg)
        load_by_name(model.decoder, read_state_dict(decoder), decoder)
        return model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _batch(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Resize to a shorter side of 512 and stack, float32 (B, 3, H, W) in [0, 1]."""
        tensors = []
        for image in images:
            height, width = image.shape[:2]
            scale = _SHORTER_SIDE / min(height, width)
            size = max(1, round(width * scale)), max(1, round(height * scale))
            tensors.append(torch.from_numpy(resize(image, size)))
        batch = torch.stack(tensors).to(self._device).permute(0, 3, 1, 2)
        return batch.to(torch.float32, memory_format=torch.channels_last) / 255

    @property
    def pictures_at_once(self) -> int:
        """On a CPU one picture fills the caches, and several at once are slower than one by one."""
        return 1 if self._device.type == "cpu" else _GPU_BATCH

    @property
    def description(self) -> str:
        """What made the restyled pictures, for their provenance."""
        return f"adain {self.precision} {self._device.type}"

    @torch.inference_mode()
    def statistics(self, image: np.ndarray) -> np.ndarray:
        """Return the means and deviations of a style image at relu4_1, float32 (2, 512), computed in float32."""
        return channel_statistics(self.vgg(self._batch([image])))[0].cpu().numpy()

    @torch.inference_mode()
    def stylise(
        self, images: Sequence[np.ndarray], statistics: Sequence[np.ndarray], strengths: Sequence[float]
    ) -> list[np.ndarray]:
        """Restyle pictures of one size; each comes back at its own size, RGB uint8.

        Raises:
            InputError: when a number leaves the range of the precision.
        """
        step = self.pictures_at_once
        restyled: list[np.ndarray] = []
        for start in range(0, len(images), step):
            # Filled up with the last picture.
            some = [min(n, len(images) - 1) for n in range(start, start + step)]
            made = self._restyle([images[n] for n in some], [statistics[n] for n in some], [strengths[n] for n in some])
            restyled += made[: len(images) - start]
        return [resize(new, image.shape[1::-1]) for new, image in zip(restyled, images, strict=True)]

    def _restyle(
        self, images: Sequence[np.ndarray], statistics: Sequence[np.ndarray], strengths: Sequence[float]
    ) -> list[np.ndarray]:
        style = torch.from_numpy(np.stack(statistics)).to(self._device)
        strength = torch.tensor(strengths, dtype=torch.float32, device=self._device)[:, None, None, None]
        # Only the convolutions run in the lower precision: means and variances need all digits.
        with autocast(self._device, self.precision):
            content = self.vgg(self._batch(images)).float()
            mixed = strength * exchange_statistics(content, style) + (1 - strength) * content
            output = self.decoder(mixed).float()
        if not torch.isfinite(output).all():
            raise InputError(f"style.precision {self.precision}: a number of AdaIN leaves its range; choose float32")
        return list(output.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
