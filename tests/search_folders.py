"""What tests of the search share: a small model, and folders of drawn pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from segswap.images import encode_jpeg
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator

SIDE = 96
MARK = 40


def make_model(seed: int = 0) -> SegSwap:
    """Return an untrained model whose matcher starts as a plain matching of features."""
    torch.manual_seed(seed)
    backbone = ResNet(ResNetSettings("resnet10", 8, 16))
    return SegSwap(backbone, Transformer(TransformerSettings("tiny", 16, 0.0, "matching"))).eval()


def draw_picture(seed: int, mark: tuple[int, int] | None = None, size: tuple[int, int] = (120, 100)) -> np.ndarray:
    """Return soft noise, RGB uint8, with a checkered square at (x, y) where ``mark`` is given."""
    rng = generator(seed, "search picture")
    picture = cv2.resize(rng.integers(60, 160, (5, 6, 3), np.uint8), size)
    if mark:
        square = np.kron(np.indices((5, 5)).sum(0) % 2, np.ones((MARK // 5, MARK // 5)))[..., None]
        picture[mark[1] : mark[1] + MARK, mark[0] : mark[0] + MARK] = square * np.array([250, 200, 10])
    return picture


def write_folder(folder: Path, marks: dict[str, tuple[int, int] | None]) -> Path:
    """Write pictures by name, with or without a mark."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, mark) in enumerate(marks.items()):
        (folder / name).write_bytes(encode_jpeg(draw_picture(seed, mark)))
    return folder
