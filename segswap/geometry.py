"""Coordinates: the one place where cells, matrices, correspondence maps and masks are defined (numpy).

Conventions of the whole project (shared specification of the pairs, "Conventions used everywhere"):

- Pixel coordinates are (x, y) with the origin at the outer corner of the first pixel, so pixel (row, column)
  has its centre at (column + 0.5, row + 0.5) and an image covers [0, width] x [0, height].
- A cell is one position of the stride-16 feature map. Cell (i, j) of an h x w grid has its centre at the
  normalised position ((j + 0.5) / w, (i + 0.5) / h).
- A correspondence map of image a, float32 (2, h, w), holds for each cell of a the normalised (x, y) of its
  centre in the other image. A mask, float32 (h, w) in [0, 1], says how much the cell belongs to the
  repeated region.
- Matrices are 3 x 3, float64, and map column vectors (x, y, 1) of pixel coordinates, source to target.

``segswap.sampling`` holds the same sampling for torch tensors.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy import ndimage

STRIDE = 16
"""Pixels per cell, on each axis."""


def grid_shape(image_shape: tuple[int, int]) -> tuple[int, int]:
    """Return (h, w) in cells of an image of (H, W) pixels.

    Raises:
        ValueError: when a side is not a positive multiple of 16.
    """
    height, width = image_shape
    if height <= 0 or width <= 0 or height % STRIDE or width % STRIDE:
        raise ValueError(f"image of {height} x {width} pixels: both sides must be positive multiples of {STRIDE}")
    return height // STRIDE, width // STRIDE


def cell_centres(shape: tuple[int, int]) -> np.ndarray:
    """Return the normalised (x, y) of all cell centres, float64 (2, h, w): the identity correspondence map."""
    h, w = shape
    x, y = np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h)
    return np.stack([x, y])


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine 3 x 3 matrix to points (..., 2)."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def scale_matrix(scale_x: float, scale_y: float) -> np.ndarray:
    """Return the matrix that stretches both axes from the origin."""
    return np.diag([scale_x, scale_y, 1.0])


def shift_matrix(x: float, y: float) -> np.ndarray:
    """Return the matrix that moves by (x, y) pixels."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def rotation_matrix(size: tuple[float, float], degrees: float) -> np.ndarray:
    """Return the matrix that rotates a (width, height) canvas counter-clockwise as seen, expanded.

    The origin of the target is the top-left corner of the smallest upright canvas that holds the rotated one.
    """
    width, height = size
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    corners = transform(matrix, np.array([[0, 0], [width, 0], [0, height], [width, height]], float))
    matrix[:2, 2] = -corners.min(0)
    return matrix


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box (x1, y1, x2, y2), its end outside, of what is not 0 in a mask (H, W); zeros where nothing is."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(ys):
        return 0, 0, 0, 0
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def warp_image(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: int) -> np.ndarray:
    """Warp an image by a matrix on a canvas of ``size`` = (width, height), sampled once, bilinear.

    Where the matrix shrinks, the image is smoothed first, so that fine texture does not alias. ``border``
    is an OpenCV border mode for positions outside the image. Corner-origin coordinates are turned into
    OpenCV's centre-origin ones here and nowhere else.
    """
    shrink = math.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    if shrink < 0.8:
        # A pixel of the target covers 1 / shrink source pixels: a box of that width has this deviation, less
        # what bilinear sampling smooths by itself.
        deviation = math.sqrt((1 / shrink**2 - 1) / 12)
        image = cv2.GaussianBlur(image, (0, 0), deviation)
    centred = shift_matrix(-0.5, -0.5) @ matrix @ shift_matrix(0.5, 0.5)
    return cv2.warpAffine(image, centred[:2], size, flags=cv2.INTER_LINEAR, borderMode=border)


def correspondence_map(matrix: np.ndarray, source_size: tuple[int, int], target_size: tuple[int, int]) -> np.ndarray:
    """Return the correspondence map of the source image under ``matrix``.

    Args:
        matrix: source pixels to target pixels.
        source_size, target_size: (width, height) in pixels, multiples of 16.

    Returns:
        float64 (2, h, w): normalised target position of each source cell's centre (may lie outside [0, 1]).
    """
    centres = cell_centres(grid_shape(source_size[::-1]))
    pixels = centres.reshape(2, -1).T * np.array(source_size, float)
    return (transform(matrix, pixels) / np.array(target_size, float)).T.reshape(centres.shape)


def sample(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Sample a map (h, w) at normalised positions (2, ...), bilinear, zero outside.

    The same numbers as ``grid_sample`` with ``align_corners=False`` and zero padding.
    """
    h, w = values.shape
    coordinates = np.stack([position[1] * h - 0.5, position[0] * w - 0.5])
    return ndimage.map_coordinates(values, coordinates, order=1, mode="grid-constant", cval=0.0)


def inside(position: np.ndarray) -> np.ndarray:
    """Return which normalised positions (2, ...) lie inside the image, bool."""
    return ((position >= 0) & (position <= 1)).all(axis=0)


def mask_to_cells(mask: np.ndarray) -> np.ndarray:
    """Bring a pixel mask (H, W) in [0, 1] to cells (h, w), bilinear at the cell centres.

    A stride of 16 puts each centre between four pixels: their mean is the bilinear value.
    """
    h, w = grid_shape(mask.shape)
    blocks = np.asarray(mask, np.float32).reshape(h, STRIDE, w, STRIDE)
    middle = slice(STRIDE // 2 - 1, STRIDE // 2 + 1)
    return blocks[:, middle, :, middle].mean(axis=(1, 3), dtype=np.float32)


def cycle_consistent_masks(mask_a: np.ndarray, corr_a: np.ndarray, corr_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make a mask of image a agree with the correspondence there and back.

    mask_a is carried into b (with corr_b), zeroed where corr_b leaves a; carried back into a (with corr_a)
    and multiplied with mask_a, zeroed where corr_a leaves b: the final mask_a. The final mask_b is the
    final mask_a carried into b, zeroed where corr_b leaves a.

    Args:
        mask_a: float (h_a, w_a) in [0, 1].
        corr_a: float (2, h_a, w_a). corr_b: float (2, h_b, w_b).

    Returns:
        The final masks of a and b, float32.
    """
    inside_a, inside_b = inside(corr_b), inside(corr_a)
    in_b = sample(mask_a, corr_b) * inside_a
    final_a = mask_a * sample(in_b, corr_a) * inside_b
    final_b = sample(final_a, corr_b) * inside_a
    return final_a.astype(np.float32), final_b.astype(np.float32)
