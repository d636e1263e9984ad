"""Matching any two images: the aspect kept, each at its own size, the second turned or mirrored if need be.

The score is the paper's (section 3.4): a sum over cells, so it grows with the size at which images are matched, and
only scores of one pair of sizes compare. The shares of cells (``Match.shares``) do not depend on the size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from segswap.geometry import STRIDE
from segswap.images import resize
from segswap.matching.features import images_to_tensor
from segswap.matching.score import joint_mask, score_pairs
from segswap.models.segswap import SegSwap

_TRAINED_AT = 480
"""Side in pixels that the published model was trained at: for checkpoints that do not say theirs."""

_LONGEST = 7 / 3
"""Of the paper's demo: images up to 1120 pixels long, for a model trained at 480."""


@dataclass(frozen=True)
class Turn:
    """How an image was turned before it was matched.

    Attributes:
        rotation: 0, 90, 180 or 270 degrees counter-clockwise.
        mirrored: left to right, before the rotation.
    """

    rotation: int = 0
    mirrored: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Turn an image or a map of cells, (H, W, ...)."""
        return np.rot90(image[:, ::-1] if self.mirrored else image, self.rotation // 90)

    def undo(self, image: np.ndarray) -> np.ndarray:
        """Turn an image or a map of cells, (H, W, ...), back."""
        image = np.rot90(image, -self.rotation // 90)
        return image[:, ::-1] if self.mirrored else image

    def undo_positions(self, position: np.ndarray) -> np.ndarray:
        """Return where normalised positions (2, ...) of the turned image lie in the image as given."""
        x, y = position
        for _ in range(self.rotation // 90):
            x, y = 1 - y, x
        return np.stack([1 - x if self.mirrored else x, y])

    def __str__(self) -> str:
        words = ["mirrored"] if self.mirrored else []
        if self.rotation:
            words.append(f"rotated by {self.rotation} degrees counter-clockwise")
        return " and ".join(words) or "as given"


AS_GIVEN = Turn()


def turns(rotations: bool = False, flips: bool = False) -> tuple[Turn, ...]:
    """Return the versions of an image to try, the image as given first: 1, 4 with rotations, 2 with flips, or 8."""
    return tuple(
        Turn(rotation, mirrored)
        for mirrored in ((False, True) if flips else (False,))
        for rotation in ((0, 90, 180, 270) if rotations else (0,))
    )


@dataclass(frozen=True, eq=False)
class Match:
    """What two images share. Grids of cells are those of the images as given, whatever the turn.

    Attributes:
        score: the mean of both directed scores; 0 or more, at most the number of cells.
        directed: of the first image in the second, and of the second in the first.
        turn: of the second image, in the version that scored best.
        masks: joint masks, float32 (h, w) in [0, 1], each on its own image's cells.
        positions: float32 (2, h, w), normalised (x, y) of each cell in the other image.
    """

    score: float
    directed: tuple[float, float]
    turn: Turn
    masks: tuple[np.ndarray, np.ndarray]
    positions: tuple[np.ndarray, np.ndarray]

    @property
    def shares(self) -> tuple[float, float]:
        """The share of each image's cells that the other one repeats: joint mask above 0.5."""
        return tuple(float((mask > 0.5).mean()) for mask in self.masks)


def fitted_size(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """Return the size in pixels, multiples of 16, at which an image is matched: its own, or the nearest allowed.

    Args:
        size: (width, height) of the image. The order does not matter: the result has the same.
        shortest, longest: that the longer side may be, positive multiples of 16.

    Returns:
        the longer side in that range, the other one in proportion, at least 16.

    Raises:
        ValueError: for other ``shortest`` and ``longest``.
    """
    if not 0 < shortest <= longest or shortest % STRIDE or longest % STRIDE:
        raise ValueError(f"sides {shortest} to {longest}: expected positive multiples of {STRIDE}, the smaller first")
    scale = min(max(max(size), shortest), longest) / max(size)
    width, height = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in size)
    return width, height


def remark(size: tuple[int, int], sides: tuple[int, int]) -> str:
    """Return in words why a match of an image says little, and what to do; empty where nothing is against its size.

    Args:
        size: (width, height) of the image.
        sides: shortest and longest that the longer side may be; see ``fitted_size``.
    """
    across = min(size) * max(fitted_size(size, *sides)) / max(size)
    what = f"{size[0]} x {size[1]} pixels"
    if min(size) < STRIDE:
        return (
            f"{what} are fewer than the {STRIDE} x {STRIDE} of one cell, so a match says little; take a larger picture"
        )
    if across < STRIDE / 2:
        return f"{what} are so long that the picture was squashed to be matched; cut it into parts"
    return ""


def training_side(about: Mapping[str, Any]) -> int:
    """Return the side in pixels of the pairs that a model was trained on, by what its checkpoint says of itself."""
    return about.get("image_size", _TRAINED_AT)


def default_sides(about: Mapping[str, Any]) -> tuple[int, int]:
    """Return the shortest and longest that the longer side of an image should be for a checkpoint, in pixels.

    From the side of the pairs that it was trained on to 7/3 of that: 480 gives 480 to 1120, as in the paper's demo.
    """
    side = training_side(about)
    return side, round(side * _LONGEST / STRIDE) * STRIDE


def image_features(
    model: SegSwap, image: np.ndarray, sides: tuple[int, int], turns: Sequence[Turn] = (AS_GIVEN,)
) -> dict[Turn, torch.Tensor]:
    """Return the features (1, C, h, w) of each version of an image, on the model's device.

    Args:
        image: RGB uint8 (H, W, 3) of any size.
        sides: shortest and longest that the longer side may be; see ``fitted_size``.
        turns: the versions.
    """
    device = next(model.parameters()).device
    fitted = resize(image, fitted_size((image.shape[1], image.shape[0]), *sides))
    return {turn: model.features(images_to_tensor([turn.apply(fitted)], device)) for turn in turns}


@torch.inference_mode()
def match_features(matcher: nn.Module, x: torch.Tensor, versions: Mapping[Turn, torch.Tensor]) -> Match:
    """Match an image's features (1, C, h, w) with those of each version of another; keep the best score.

    Of equal scores, all of them 0 for example, the first version's is kept.
    """
    return max((_match_turned(matcher, x, y, turn) for turn, y in versions.items()), key=lambda match: match.score)


def _match_turned(matcher: nn.Module, x: torch.Tensor, y: torch.Tensor, turn: Turn) -> Match:
    """Match features with those of an image that was turned, and turn the result back."""
    maps_x, maps_y = matcher(x, y)
    ones_x, ones_y = (torch.ones_like(maps[:, 2:]) for maps in (maps_x, maps_y))
    there, back = score_pairs(maps_x, maps_y, x, y, ones_x), score_pairs(maps_y, maps_x, y, x, ones_y)
    mask_x, mask_y = joint_mask(maps_x, maps_y, ones_x)[0, 0], joint_mask(maps_y, maps_x, ones_y)[0, 0]
    cells_y = turn.undo(np.moveaxis(maps_y[0, :2].cpu().numpy(), 0, 2))
    return Match(
        score=float(there + back) / 2,
        directed=(float(there), float(back)),
        turn=turn,
        masks=(mask_x.cpu().numpy(), np.ascontiguousarray(turn.undo(mask_y.cpu().numpy()))),
        positions=(
            turn.undo_positions(maps_x[0, :2].cpu().numpy()),
            np.ascontiguousarray(np.moveaxis(cells_y, 2, 0)),
        ),
    )


def match_images(
    model: SegSwap, a: np.ndarray, b: np.ndarray, sides: tuple[int, int], turns: Sequence[Turn] = (AS_GIVEN,)
) -> Match:
    """Match two images.

    Args:
        model: in evaluation mode.
        a, b: RGB uint8 (H, W, 3), each of any size.
        sides: shortest and longest that the longer side of an image may be, in pixels; one that is shorter or longer is
            resized, the aspect kept. ``default_sides`` fits the checkpoint.
        turns: versions of ``b`` to try, of the function ``turns``; the best score is kept, of equal ones the first.
    """
    x = image_features(model, a, sides)[AS_GIVEN]
    return match_features(model.matcher, x, image_features(model, b, sides, turns))
