"""Settings of a small backbone of each family, for tests."""

from __future__ import annotations

from segswap.models.backbones.backbone import BackboneSettings
from segswap.models.backbones.efficientnet import EfficientNetSettings
from segswap.models.backbones.resnet import ResNetSettings
from segswap.models.backbones.vit import ViTForm, ViTSettings

VIT_FORM = ViTForm(
    width=64,
    depth=3,
    heads=2,
    hidden=96,
    gated=False,
    patch=14,
    prefix=2,
    grid=4,
    antialias=True,
    rotary_base=100.0,
    final_norm=True,
    epsilon=1e-6,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.2, 0.2),
)

SMALL: dict[str, BackboneSettings] = {
    "ResNet": ResNetSettings("resnet10", 8, 16),
    "EfficientNet": EfficientNetSettings("efficientnet_lite0", (5, 7)),
    "ViT": ViTSettings("vit", (0, 1), VIT_FORM),
}
