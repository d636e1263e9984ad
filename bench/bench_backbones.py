"""Backbones: EfficientNet-Lite0 with its batch norms merged into the convolutions, against the plain network.

    python bench/bench_backbones.py --quick     # 480 x 480, under 50 s on two cores
    python bench/bench_backbones.py             # 704 x 960 as well

One thread, pictures one by one, random weights. The plain network applies batch norm by itself and pads pictures by
copies. The last line is JSON: ratios are its time divided by ours, medians of alternating runs.
"""

from __future__ import annotations

import argparse

import torch
from timing import alternate, print_result
from torch import nn
from torch.nn import functional as F

from segswap.models.backbones.backbone import joined
from segswap.models.backbones.efficientnet import EfficientNet, EfficientNetSettings


def convolved(x: torch.Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> torch.Tensor:
    """Return a convolution with TensorFlow's padding, and the batch norm behind it."""
    if convolution.stride[0] == 2:
        margin = convolution.padding[0]
        x = F.pad(x, (margin - 1, margin, margin - 1, margin))
    padding = 0 if convolution.stride[0] == 2 else convolution.padding
    args = (convolution.stride, padding, convolution.dilation, convolution.groups)
    return norm(F.conv2d(x, convolution.weight, None, *args))


def plain(backbone: EfficientNet, images: torch.Tensor) -> torch.Tensor:
    """Return the features of a backbone, computed in the plain way."""
    x = F.relu6(convolved((images * 255 - 127) / 128, backbone._conv_stem, backbone._bn0))
    taps = []
    for number, block in enumerate(backbone._blocks):
        y = x
        *inner, last = block.convolutions()
        for convolution, norm in inner:
            y = F.relu6(convolved(y, convolution, norm))
        y = convolved(y, *last)
        x = y + x if block.is_residual else y
        if number in backbone.settings.taps:
            taps.append(x)
    return joined(taps)


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smaller size alone, 5 rounds")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    sizes, rounds = ([(480, 480)], 5) if args.quick else ([(480, 480), (704, 960)], args.rounds)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = EfficientNet(EfficientNetSettings("efficientnet_lite0")).freeze()
    ratios, details = {}, {}
    for height, width in sizes:
        images = torch.rand(1, 3, height, width).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            ways = {
                "ours": lambda images=images: backbone(images),
                "plain": lambda images=images: plain(backbone, images),
            }
            seconds, features = alternate(ways, rounds)
        torch.testing.assert_close(features["ours"], features["plain"], atol=1e-5, rtol=0)
        size = f"{height} x {width}"
        print(f"{size}: plain {1 / seconds['plain']:.2f} pictures/s, merged {1 / seconds['ours']:.2f}")
        ratios[size] = seconds["plain"] / seconds["ours"]
        details |= {f"{name} {size}, pictures/s": 1 / value for name, value in seconds.items()}
    print_result("backbones", ratios, details)


if __name__ == "__main__":
    main()
