"""How an object is put into a picture: Poisson blending as published, or cut and paste, for comparison."""

from __future__ import annotations

import numpy as np

from segswap.geometry import mask_box
from segswap.pairs.poisson import TooThin, poisson_blend


def paste(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Put the masked part of ``source`` over ``target``, at the same place; arrays as for ``poisson_blend``.

    Raises:
        TooThin: for the masks that cannot be Poisson-blended, so that both ways make the same pairs.
    """
    x1, y1, x2, y2 = mask_box(mask)
    if min(x2 - x1, y2 - y1) < 3:
        raise TooThin("a mask must be at least three pixels wide and high")
    return np.where(mask[..., None], source, target)


_WAYS = {"poisson": poisson_blend, "paste": paste}


def blend(source: np.ndarray, target: np.ndarray, mask: np.ndarray, way: str) -> np.ndarray:
    """Put the masked part of ``source`` into ``target`` by a way, ``poisson`` or ``paste``; see ``poisson_blend``."""
    return _WAYS[way](source, target, mask)
