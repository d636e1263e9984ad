"""Poisson blending (Perez, Gangnet and Blake, SIGGRAPH 2003), solved directly by sine transforms.

The result is that of ``cv2.seamlessClone`` with ``NORMAL_CLONE``, which the paper uses, to a grey level, several times
faster: the transforms of the mask's box are two small matrix products each. It has no edge failures: the mask may touch
the border of the picture.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from threadpoolctl import ThreadpoolController

from segswap.geometry import mask_box

_MARGIN = 3
"""Pixels inside the mask's edge from which on the source's gradients are taken, as OpenCV does."""


class TooThin(ValueError):
    """The mask is less than three pixels wide or high: it has no inside to solve for."""


def poisson_blend(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blend the masked part of ``source`` into ``target`` in the gradient domain, at the same place.

    The gradients are the source's three pixels inside the mask and the target's elsewhere. They are integrated over the
    mask's whole bounding box, whose border keeps the target's values: unmasked pixels of the box keep their detail and
    may change in tone.

    Args:
        source, target: RGB uint8 (H, W, 3).
        mask: bool (H, W).

    Returns:
        RGB uint8 (H, W, 3), a new array.

    Raises:
        TooThin: when the mask's box is less than three pixels wide or high, or nothing is masked.
    """
    x1, y1, x2, y2 = mask_box(mask)
    if min(x2 - x1, y2 - y1) < 3:
        raise TooThin("a mask must be at least three pixels wide and high to be blended")
    box = np.s_[y1:y2, x1:x2]
    framed = cv2.copyMakeBorder(mask[box].astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    inside = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=_MARGIN)[1:-1, 1:-1].astype(bool)
    own, there = (np.ascontiguousarray(p[box].transpose(2, 0, 1), np.float32) for p in (source, target))

    # Forward differences, then their divergence at the inner pixels.
    step_x = np.where(inside[:, :-1], np.diff(own, axis=2), np.diff(there, axis=2))
    step_y = np.where(inside[:-1], np.diff(own, axis=1), np.diff(there, axis=1))
    divergence = np.diff(step_x, axis=2)[:, 1:-1] + np.diff(step_y, axis=1)[:, :, 1:-1]
    # What is known at the border goes to the right-hand side.
    divergence[:, 0] -= there[:, 0, 1:-1]
    divergence[:, -1] -= there[:, -1, 1:-1]
    divergence[:, :, 0] -= there[:, 1:-1, 0]
    divergence[:, :, -1] -= there[:, 1:-1, -1]

    blended = target.copy()
    solved = _solve(divergence).round().clip(0, 255).astype(np.uint8)
    blended[box][1:-1, 1:-1] = solved.transpose(1, 2, 0)
    return blended


def _solve(divergence: np.ndarray) -> np.ndarray:
    """Solve the discrete Poisson equation with zero borders, float32 (C, h, w), by the sine transform of type 1."""
    height, width = divergence.shape[1:]
    sine_y, eigenvalues_y = _sine_transform(height)
    sine_x, eigenvalues_x = _sine_transform(width)
    scale = 4 / ((height + 1) * (width + 1) * (eigenvalues_y[:, None] + eigenvalues_x))
    # One thread: the bytes of a pair must not depend on the number of cores.
    with _blas().limit(limits=1, user_api="blas"):
        return sine_y @ ((sine_y @ divergence @ sine_x) * scale.astype(np.float32)) @ sine_x


@lru_cache(maxsize=512)
def _sine_transform(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix of the transform, float32 (n, n), symmetric, and the eigenvalues of the second difference (n,).

    A box at most as large as the picture needs at most as many different matrices as it has sides: 150 MB at 480.
    """
    k = np.arange(1, n + 1)
    period = 2 * (n + 1)
    sines = np.sin(np.pi * np.arange(period) / (n + 1)).astype(np.float32)
    return sines[np.outer(k, k) % period], 2 * np.cos(np.pi * k / (n + 1)) - 2


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()
