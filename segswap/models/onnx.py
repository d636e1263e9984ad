"""The model as two ONNX files: the backbone, and the matcher on its features, for images of any size."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from segswap.errors import InputError
from segswap.models.backbones.backbone import Backbone
from segswap.models.segswap import SegSwap

_OPTIONS = {"opset_version": 20, "dynamo": True, "external_data": False, "verbose": False}

BACKBONE_NAME, MATCHER_NAME = "backbone.onnx", "matcher.onnx"


class _Matcher(nn.Module):
    """The matcher with two inputs: nothing is hidden when a model is used."""

    def __init__(self, matcher: nn.Module) -> None:
        super().__init__()
        self.matcher = matcher

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.matcher(x, y)


def export_onnx(model: SegSwap, folder: str | Path) -> list[Path]:
    """Write a model as ``backbone.onnx`` and ``matcher.onnx``.

    The backbone maps ``images`` float32 (B, 3, H, W) in [0, 1] to ``features`` (B, C, H/16, W/16). The matcher maps
    features ``x`` (B, C, hx, wx) and ``y`` (B, C, hy, wy) to ``maps_x`` (B, 3, hx, wx) and ``maps_y`` (B, 3, hy, wy):
    position in the other image, and mask. Batch and sizes are free; sides of images are multiples of 16.

    Returns:
        both paths.

    Raises:
        InputError: when the packages that write ONNX are not installed.
    """
    folder = Path(folder)
    model = model.cpu().eval()
    export_backbone(model.backbone, folder / BACKBONE_NAME)
    x, y = torch.rand(2, model.backbone.channels, 6, 8), torch.rand(2, model.backbone.channels, 5, 7)
    batch = torch.export.Dim("batch", min=1)
    shapes = [
        {0: batch, 2: torch.export.Dim(f"rows_{side}", min=1), 3: torch.export.Dim(f"columns_{side}", min=1)}
        for side in "xy"
    ]
    torch.onnx.export(
        _Matcher(model.matcher).eval(),
        (x, y),
        folder / MATCHER_NAME,
        input_names=["x", "y"],
        output_names=["maps_x", "maps_y"],
        dynamic_shapes=tuple(shapes),
        **_OPTIONS,
    )
    return [folder / BACKBONE_NAME, folder / MATCHER_NAME]


def export_backbone(backbone: Backbone, path: str | Path) -> None:
    """Write a backbone, on the CPU and in evaluation mode, as the first file of ``export_onnx``; errors as there."""
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise InputError('ONNX needs the packages onnx and onnxscript: pip install "segswap[onnx]"')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    batch, height, width = (torch.export.Dim(name, min=1) for name in ("batch", "rows", "columns"))
    torch.onnx.export(
        backbone,
        (torch.rand(2, 3, 96, 128),),
        path,
        input_names=["images"],
        output_names=["features"],
        dynamic_shapes=({0: batch, 2: 16 * height, 3: 16 * width},),
        **_OPTIONS,
    )
