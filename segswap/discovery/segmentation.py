"""From a soft mask of cells to a segmentation of the image's pixels.

Shared specification, section "Discovery", step 7; GrabCut: Rother, Kolmogorov and Blake, SIGGRAPH 2004.
"""

from __future__ import annotations

import cv2
import numpy as np

_COMPONENTS = 65
"""Numbers of OpenCV's colour model: five Gaussians of 1 weight, 3 means and 9 covariances each."""


def trimap(mask: np.ndarray, foreground: float = 0.6, dilation: int = 10) -> np.ndarray:
    """Return where GrabCut starts, in OpenCV's labels.

    Sure foreground (1): above ``foreground`` of the maximum; probable foreground (3): above 0; probable
    background (2): the ring that a dilation by a square of ``dilation`` pixels adds to both; sure background (0).
    A mask that is nowhere above 0 is sure background.

    Args:
        mask: float (H, W), pixels. foreground: in [0, 1]. dilation: in pixels, 0 for no ring.

    Returns:
        uint8 (H, W).
    """
    labels = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    positive = mask > 0
    if dilation > 0:
        square = np.ones((dilation, dilation), np.uint8)
        # An even square has no middle. The published segmentations have the longer arm at the left and on top;
        # OpenCV's default is the opposite.
        middle = (dilation - 1) // 2
        grown = cv2.dilate(positive.astype(np.uint8), square, anchor=(middle, middle))
        labels[grown > 0] = cv2.GC_PR_BGD
    labels[positive] = cv2.GC_PR_FGD
    labels[positive & (mask > foreground * mask.max())] = cv2.GC_FGD
    return labels


def segment(
    image: np.ndarray,
    mask: np.ndarray,
    foreground: float = 0.6,
    dilation: int = 10,
    iterations: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Segment an image by GrabCut, starting from a soft mask of its cells.

    The mask is up-sampled bilinearly and becomes a ``trimap``. The same arguments always give the same result:
    OpenCV's random numbers, which start the colour models, are seeded (this changes OpenCV's state for the
    calling thread).

    Args:
        image: RGB uint8 (H, W, 3).
        mask: float (h, w), finite; only its ratio to its maximum counts.
        foreground, dilation: see ``trimap``.
        iterations: of GrabCut, at least 1.

    Returns:
        bool (H, W), nowhere true for a mask that is nowhere above 0.

    Raises:
        ValueError: for an image or mask of another kind, or a value out of range.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image of {image.dtype} {image.shape}: expected uint8 (H, W, 3)")
    if mask.ndim != 2 or not np.isfinite(mask).all():
        raise ValueError(f"mask of shape {mask.shape}: expected (h, w), all numbers finite")
    if not 0 <= foreground <= 1 or dilation < 0 or iterations < 1:
        raise ValueError(
            f"foreground = {foreground}, dilation = {dilation}, iterations = {iterations}: expected a foreground "
            "in [0, 1], a dilation of at least 0 pixels and at least 1 iteration"
        )
    height, width = image.shape[:2]
    pixels = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    labels = trimap(pixels, foreground, dilation)
    start = _is_foreground(labels)
    if start.all() or not start.any():
        # GrabCut needs colours of both kinds and fails without. There is nothing to separate: without foreground
        # the mask is empty, without background all of the image is above 0, and that is the answer.
        return start
    models = np.zeros((1, _COMPONENTS)), np.zeros((1, _COMPONENTS))
    cv2.setRNGSeed(seed)
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    cv2.grabCut(bgr, labels, None, *models, iterations, cv2.GC_INIT_WITH_MASK)
    return _is_foreground(labels)


def _is_foreground(labels: np.ndarray) -> np.ndarray:
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
