"""Photometric changes: pictures of a batch made brighter, greyer, softer or noisier, each on its own.

All changes keep every pixel where it is, so labels stay as they are, and keep values in [0, 1]. They run on the
training's device just before the backbone, in a fixed order: gain, gamma, contrast, saturation, grey, blur, noise.
Light comes first, then colours, then the lens, then the sensor. Only the positive pairs of a batch are changed, and the
negatives made of them: validation and the pools of hard negatives have pictures as they are.

``draw_changes`` makes every choice from random numbers with an address, ``change_pictures`` has no choice left.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

_LUMA = 0.299, 0.587, 0.114
"""Shares of red, green and blue in a grey (ITU-R BT.601)."""


@dataclasses.dataclass(frozen=True)
class PhotometricSettings:
    """How strong each change is at most; 0, the published value, is never.

    Attributes:
        gain: values are multiplied by exp(u * gain), u uniform in [-1, 1].
        gamma: values are raised to the power exp(u * gamma).
        contrast: distances from the picture's mean are multiplied by exp(u * contrast).
        saturation: distances from the pixel's grey are multiplied by exp(u * saturation).
        grey: chance of a picture without colour.
        blur: chance of a blurred picture.
        blur_radius: bounds of the blur's radius, the standard deviation of a Gaussian, in pixels; uniform between.
        noise: largest standard deviation of the noise, where white is 1; uniform between 0 and that.
    """

    gain: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    blur_radius: Sequence[float] = (0.3, 1.5)
    noise: float = 0.0

    @property
    def changing(self) -> bool:
        """Whether any picture is changed."""
        return any(getattr(self, field.name) > 0 for field in dataclasses.fields(self) if field.name != "blur_radius")


UNCHANGED = PhotometricSettings()
"""Pictures as they are."""


@dataclasses.dataclass(frozen=True)
class Changes:
    """What happens to each of n pictures; on the CPU, a value for each.

    Attributes:
        gain, gamma, contrast, saturation: float32 (n,), 1 for none.
        grey: bool (n,).
        blur: float32 (n,), radii in pixels, 0 for none.
        noise: float32 (n,), standard deviations, 0 for none.
        noise_seed: int64 (n,), of the noise's random numbers.
    """

    gain: torch.Tensor
    gamma: torch.Tensor
    contrast: torch.Tensor
    saturation: torch.Tensor
    grey: torch.Tensor
    blur: torch.Tensor
    noise: torch.Tensor
    noise_seed: torch.Tensor


def draw_changes(settings: PhotometricSettings, rng: np.random.Generator, count: int) -> Changes:
    """Draw what happens to ``count`` pictures.

    The same numbers are drawn whatever the settings, so another strength of one change leaves the others alone.
    """

    def factor(strength: float) -> torch.Tensor:
        return torch.from_numpy(np.exp(strength * rng.uniform(-1, 1, count)).astype(np.float32))

    def chosen(chance: float) -> np.ndarray:
        return rng.uniform(size=count) < chance

    return Changes(
        gain=factor(settings.gain),
        gamma=factor(settings.gamma),
        contrast=factor(settings.contrast),
        saturation=factor(settings.saturation),
        grey=torch.from_numpy(chosen(settings.grey)),
        blur=torch.from_numpy((chosen(settings.blur) * rng.uniform(*settings.blur_radius, count)).astype(np.float32)),
        noise=torch.from_numpy((settings.noise * rng.uniform(size=count)).astype(np.float32)),
        noise_seed=torch.from_numpy(rng.integers(2**63, size=count)),
    )


def change_pictures(images: torch.Tensor, changes: Changes) -> torch.Tensor:
    """Return pictures (n, 3, H, W) in [0, 1] after their changes, in float32 whatever autocast is on.

    A picture depends on its own pixels and changes alone. A change that no picture has is not computed.
    """
    # Batches come with channels last, in which blurring takes more than twice as long.
    images = images.contiguous()
    with torch.autocast(images.device.type, enabled=False):
        for change, factors in (
            (change_gain, changes.gain),
            (change_gamma, changes.gamma),
            (change_contrast, changes.contrast),
            (change_saturation, changes.saturation),
        ):
            if (factors != 1).any():
                images = change(images, factors)
        if changes.grey.any():
            images = make_grey(images, changes.grey)
        if changes.blur.any():
            images = blur(images, changes.blur)
        if changes.noise.any():
            images = add_noise(images, changes.noise, changes.noise_seed)
    return images


def change_gain(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Multiply the values of pictures (n, 3, H, W) by factors (n,); what is brighter than white is white."""
    return (images * _each(factors, images)).clamp_(0, 1)


def change_gamma(images: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    """Raise the values of pictures (n, 3, H, W) to powers (n,); below 1 the picture becomes brighter."""
    return images ** _each(exponents, images)


def change_contrast(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Multiply the distances from the mean of each picture (n, 3, H, W) by factors (n,)."""
    return _away(images.mean(dim=(1, 2, 3), keepdim=True), images, factors)


def change_saturation(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Multiply the distances from the grey of each pixel of pictures (n, 3, H, W) by factors (n,)."""
    return _away(_grey(images), images, factors)


def make_grey(images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Take the colour out of the chosen (n,) of pictures (n, 3, H, W)."""
    return torch.where(_each(chosen, images), _grey(images), images)


def blur(images: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """Blur pictures (n, 3, H, W) with Gaussians of radii (n,) in pixels, below a third of the shorter side.

    The picture goes on mirrored beyond its edges, so its mean stays.
    """
    # One by one: a kernel has the length that its own radius asks for, and most pictures stay sharp.
    pairs = zip(images, radii.tolist(), strict=True)
    return torch.stack([_blurred(image, radius) if radius > 0 else image for image, radius in pairs])


def add_noise(images: torch.Tensor, deviations: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """Add Gaussian noise of standard deviations (n,) to pictures (n, 3, H, W), from seeds (n,) of their own."""
    # Its own layout, whatever that of the pictures: random numbers fill memory in order.
    noise = torch.empty(images.shape, device=images.device)
    for values, seed in zip(noise, seeds.tolist(), strict=True):
        values.normal_(generator=torch.Generator(images.device).manual_seed(seed))
    return noise.mul_(_each(deviations, images)).add_(images).clamp_(0, 1)


def _each(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return a value for each picture in the shape that goes with pictures, on their device."""
    return values.to(images.device)[:, None, None, None]


def _away(origin: torch.Tensor, images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Multiply distances from an origin by factors (n,); a factor of 1 changes no bit."""
    factors = _each(factors, images)
    return (images * factors).add_(origin * (1 - factors)).clamp_(0, 1)


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Return the grey of each pixel, (n, 1, H, W)."""
    red, green, blue = images.split(1, dim=1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).clamp_(0, 1)


def _blurred(image: torch.Tensor, radius: float) -> torch.Tensor:
    """Blur one picture (3, H, W)."""
    bell = [math.exp(-0.5 * (distance / radius) ** 2) for distance in range(math.ceil(3 * radius) + 1)]
    total = bell[0] + 2 * sum(bell[1:])
    weights = [value / total for value in bell]
    for _ in range(2):
        image = _smoothed(image, weights).transpose(1, 2)
    return image.clamp_(0, 1)


def _smoothed(image: torch.Tensor, weights: list[float]) -> torch.Tensor:
    """Return the weighted sums over neighbours along the last axis; ``weights`` are of the distances 0, 1, ..."""
    reach, length = len(weights) - 1, image.shape[-1]
    extended = torch.cat([image[..., :reach].flip(-1), image, image[..., -reach:].flip(-1)], dim=-1)
    # A sum of shifted copies: on a CPU several times faster than a convolution of so few channels.
    result = weights[0] * image
    for distance, weight in enumerate(weights[1:], 1):
        before, after = (extended[..., start : start + length] for start in (reach - distance, reach + distance))
        result.add_(before + after, alpha=weight)
    return result
