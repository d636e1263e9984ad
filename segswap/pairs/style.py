"""Restyling: one function per method, all with the same inputs, and the style statistics each needs.

Of a style image only per-channel means and standard deviations are needed, so they are computed once for
the whole folder and kept in one small file; a style image is never opened again.

- ``reinhard``: mean and deviation transfer in Lab (Reinhard et al. 2001); needs no weights.
- ``adain``: VGG-19 features to relu4_1 and a learned decoder (Huang and Belongie 2017), as published.
- ``none``: shards hold no stylised versions.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from segswap.errors import InputError
from segswap.files import read_arrays, write_arrays
from segswap.images import UnreadableImage, read_image
from segswap.listing import list_images
from segswap.names import as_text
from segswap.progress import progress
from segswap.randomness import generator

METHODS = ("adain", "reinhard", "none")

PRECISIONS = ("auto", "float32", "float16", "bfloat16")
"""Of AdaIN's convolutions."""


@dataclasses.dataclass(frozen=True)
class StyleChoice:
    """The style of one picture: a style image's file name and a strength in [0, 1]."""

    name: str
    strength: float


class Stylist(Protocol):
    """A restyling method.

    ``description`` says in a word or three what made the pictures; ``statistics(image)`` gives the mean and deviation
    of a style image, float32 (2, C); ``stylise(images, statistics, strengths)`` restyles RGB uint8 (H, W, 3) pictures,
    each with its own statistics (2, C) and strength.
    """

    @property
    def description(self) -> str: ...

    def statistics(self, image: np.ndarray) -> np.ndarray: ...

    def stylise(
        self, images: Sequence[np.ndarray], statistics: Sequence[np.ndarray], strengths: Sequence[float]
    ) -> list[np.ndarray]: ...


class Reinhard:
    """Mean and standard deviation transfer in CIE Lab (Reinhard et al., Color Transfer between Images, 2001)."""

    description = "reinhard"

    @staticmethod
    def _lab(image: np.ndarray) -> np.ndarray:
        return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)

    def statistics(self, image: np.ndarray) -> np.ndarray:
        """Return Lab mean and standard deviation, float32 (2, 3)."""
        return np.stack([moment.ravel() for moment in cv2.meanStdDev(self._lab(image))]).astype(np.float32)

    def stylise(
        self, images: Sequence[np.ndarray], statistics: Sequence[np.ndarray], strengths: Sequence[float]
    ) -> list[np.ndarray]:
        """Restyle pictures one by one; strength 0 gives the picture, 1 the style's full colour statistics."""
        return [self._stylise(*each) for each in zip(images, statistics, strengths, strict=True)]

    def _stylise(self, image: np.ndarray, statistics: np.ndarray, strength: float) -> np.ndarray:
        lab = self._lab(image)
        mean, deviation = (moment.ravel().astype(np.float32) for moment in cv2.meanStdDev(lab))
        # A flat channel has no contrast to scale.
        gain = np.where(deviation > 1e-3, statistics[1] / np.maximum(deviation, 1e-3), 1).astype(np.float32)
        restyled = (lab - mean) * gain + statistics[0]
        mixed = np.float32(strength) * restyled + np.float32(1 - strength) * lab
        return np.round(cv2.cvtColor(mixed, cv2.COLOR_Lab2RGB).clip(0, 1) * 255).astype(np.uint8)


def load_stylist(
    method: str,
    vgg: str | os.PathLike | None = None,
    decoder: str | os.PathLike | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Stylist | None:
    """Return the restyling method of a name; None for ``none``.

    Args:
        method: one of ``METHODS``.
        vgg, decoder: weight files, needed by ``adain`` only.
        device: torch device of ``adain``.
        precision: of ``adain``, one of ``PRECISIONS``; ``auto`` is ``float32`` on a CPU and ``float16`` on a GPU.
    """
    if method == "none":
        return None
    if method == "reinhard":
        return Reinhard()
    if method == "adain":
        # Torch is imported only where it is needed: a shard job without AdaIN starts seconds faster.
        from segswap.device import pick_device
        from segswap.pairs.adain import AdaIN

        if not vgg or not decoder:
            raise InputError("style.method adain needs style.vgg and style.decoder; or choose reinhard or none")
        if precision not in PRECISIONS:
            raise InputError(f"style.precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
        return AdaIN.load(vgg, decoder, pick_device(device), precision)
    raise InputError(f"style.method {method!r}: expected one of {', '.join(METHODS)}")


def compute_style_statistics(folder: str | os.PathLike, output: str | os.PathLike, stylist: Stylist) -> None:
    """Write the statistics of every picture of a style folder: ``names`` (n,) and ``statistics`` (n, 2, C), npz.

    Pictures that do not open are skipped, counted on the log and left out of the names.

    Raises:
        InputError: when the folder holds no picture that opens.
    """
    names, rows = [], []
    for path in progress(list_images(folder), "style statistics"):
        try:
            rows.append(stylist.statistics(read_image(path)))
            names.append(as_text(path.name))
        except UnreadableImage as error:
            print(f"skipped: {error}")
    if not names:
        raise InputError(f"{folder}: none of the pictures opens; put readable style pictures there")
    write_arrays(output, names=np.array(names), statistics=np.stack(rows))


@dataclasses.dataclass(frozen=True)
class StyleStatistics:
    """The style folder as training needs it: ``names`` and float32 ``values`` (n, 2, C)."""

    names: tuple[str, ...]
    values: np.ndarray

    @classmethod
    def read(cls, path: str | os.PathLike) -> StyleStatistics:
        """Read a file of ``compute_style_statistics``.

        Raises:
            InputError: when the file is missing or not of that form.
        """
        arrays = read_arrays(path, "style statistics", ("names", "statistics"))
        return cls(tuple(str(name) for name in arrays["names"]), arrays["statistics"])

    def of(self, name: str) -> np.ndarray:
        """Return the statistics (2, C) of a style image."""
        return self.values[self.names.index(name)]


def draw_styles(styles: StyleStatistics, seed: int, kind: str, index: int) -> tuple[StyleChoice, StyleChoice]:
    """Draw the styles of both pictures of a pair: image uniform over the folder, strength uniform in [0, 1]."""
    rng = generator(seed, "style", kind, index)
    names = rng.choice(len(styles.names), 2)
    strengths = rng.uniform(0, 1, 2)
    first, second = (
        StyleChoice(styles.names[n], float(strength)) for n, strength in zip(names, strengths, strict=True)
    )
    return first, second


def add_style_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a program that restyles, for ``open_style``."""
    parser.add_argument("--style", default="none", choices=METHODS, help="how both pictures are restyled")
    parser.add_argument("--statistics", help="statistics of the style images")
    parser.add_argument("--vgg", help="AdaIN's encoder")
    parser.add_argument("--decoder", help="AdaIN's decoder")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="of AdaIN's convolutions")
    parser.add_argument("--device", default="auto", help="torch device, for AdaIN")


def open_style(
    method: str,
    statistics: str | os.PathLike | None,
    vgg: str | os.PathLike | None,
    decoder: str | os.PathLike | None,
    device: str,
    precision: str,
) -> tuple[Stylist, StyleStatistics] | tuple[None, None]:
    """Return what restyles pairs, and the statistics of the style images; None and None for ``none``.

    Args:
        statistics: file of ``compute_style_statistics``.
        method, vgg, decoder, device, precision: as of ``load_stylist``.

    Raises:
        InputError: when a file is missing or damaged.
    """
    stylist = load_stylist(method, vgg, decoder, device, precision)
    return (None, None) if stylist is None else (stylist, StyleStatistics.read(statistics))
