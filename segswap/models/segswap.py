"""The whole model: a frozen backbone and a matcher on its features."""

from __future__ import annotations

import torch
from torch import nn

from segswap.models.backbone import Backbone
from segswap.models.transformer import Transformer


class SegSwap(nn.Module):
    """Two images in, two maps out.

    Attributes:
        backbone: images (B, 3, H, W) in [0, 1] to L2-normalised features (B, C, H/16, W/16); frozen.
        matcher: two feature maps to two outputs (B, 3, h, w): x, y, mask.
    """

    def __init__(self, backbone: Backbone, matcher: Transformer) -> None:
        super().__init__()
        self.backbone = backbone.freeze()
        self.matcher = matcher

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of images, (B, C, h, w), channels last in memory, without a gradient."""
        with torch.inference_mode():
            features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        # What inference mode made cannot take part in training; a copy can.
        return features.clone(memory_format=torch.channels_last)

    def forward(self, images_a: torch.Tensor, images_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Match RGB images (B, 3, H, W) in [0, 1]; sides are multiples of 16, sizes may differ."""
        return self.matcher(self.features(images_a), self.features(images_b))
