"""A folder of small pictures, two of which share a detail, and the application that serves it."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import torch
from flask import Flask
from torch.nn import functional as F

from segswap.drawing import write_picture
from segswap.matching.cosine import CosineMatcher
from segswap.models.backbones.backbone import Backbone
from segswap.models.segswap import SegSwap
from segswap.search.index import open_index
from segswap.search.search import SearchSettings
from segswap.server.app import create_app

SIDES = (96, 160)
DETAIL = (16, 16, 80, 80)
"""Box x1, y1, x2, y2 in ``a.png`` of what it shares with ``b.png``."""


class Patches(Backbone):
    """A backbone whose features are a cell's own colours and nothing around it."""

    channels = 48
    distinction = normalisation = ""

    def __init__(self) -> None:
        super().__init__()
        self.device_of = torch.nn.Parameter(torch.zeros(1))

    def freeze(self) -> Patches:
        return self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        colours = F.pixel_unshuffle(F.avg_pool2d(images, 4), 4)
        return F.normalize(colours - colours.mean(1, keepdim=True), dim=1)


class Gate(torch.nn.Module):
    """Finds what is equal, cell by cell; while it is shut, whoever matches waits in it."""

    def __init__(self) -> None:
        super().__init__()
        self.matcher, self.free = CosineMatcher(0.98), threading.Event()
        self.free.set()

    def forward(self, *arguments: torch.Tensor, **others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.free.wait(60)
        return self.matcher(*arguments, **others)


def equal_finder() -> SegSwap:
    """Return a model that needs no training: cells are alike where their colours are."""
    return SegSwap(Patches(), Gate()).eval()


def draw_folder(folder: Path) -> Path:
    """Write 96 pixel pictures: a.png and b.png share a detail, the others nothing; one is a link out of the folder."""
    rng = np.random.default_rng(1)

    def noise(width: int = 96) -> np.ndarray:
        return cv2.resize(
            rng.integers(0, 255, (6, width // 16, 3), np.uint8), (width, 96), interpolation=cv2.INTER_CUBIC
        )

    a, b = noise(), noise()
    x1, y1, x2, y2 = DETAIL
    b[y1:y2, x1 + 16 : x2 + 16] = a[y1:y2, x1:x2]
    for name, picture in {"a": a, "b": b, "c": noise(), "d": noise(160), "e & <i>": noise()}.items():
        write_picture(folder / f"{name}.png", picture)
    outside = folder.parent / "outside"
    write_picture(outside / "secret.png", noise())
    (folder / "z link.png").symlink_to(outside / "secret.png")
    return folder


def make_app(folder: Path, store: Path, model: SegSwap | None = None, **changes: object) -> Flask:
    """Return the application for a folder; ``changes`` go to ``create_app``."""
    model = model or equal_finder()
    settings = SearchSettings(shortlist=0, false_positives=0.3)
    options = {"index": open_index(folder, model, store), "sides": SIDES, "settings": settings} | changes
    return create_app(model, **options)
