"""Pictures and features that were used last: a list of pairs often names one picture in several rows."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from segswap.images import read_image
from segswap.matching.match import AS_GIVEN, Turn, image_features, remark
from segswap.models.segswap import SegSwap


@dataclass(eq=False)
class _Picture:
    image: np.ndarray
    features: dict[Turn, torch.Tensor] = field(default_factory=dict)


class RecentPictures:
    """Reads pictures and computes features, each once as long as it stays among the last few."""

    def __init__(
        self, model: SegSwap, sides: tuple[int, int], kept: int = 3, say: Callable[[str], None] = print
    ) -> None:
        """Start empty.

        Args:
            model: in evaluation mode.
            sides: shortest and longest that the longer side of an image may be; see ``fitted_size``.
            kept: number of pictures that are remembered.
            say: is given a line for each picture whose size makes a match doubtful.
        """
        self._say = say
        self._model, self._sides, self._kept = model, sides, kept
        self._pictures: OrderedDict[str, _Picture] = OrderedDict()

    def _picture(self, key: str, path: str | os.PathLike) -> _Picture:
        if key not in self._pictures:
            self._pictures[key] = _Picture(read_image(path))
            # Said once of each picture.
            if words := remark(self._pictures[key].image.shape[1::-1], self._sides):
                self._say(f"{path}: {words}")
        self._pictures.move_to_end(key)
        while len(self._pictures) > self._kept:
            self._pictures.popitem(last=False)
        return self._pictures[key]

    def image(self, key: str, path: str | os.PathLike) -> np.ndarray:
        """Return a picture, RGB uint8 (H, W, 3).

        Args:
            key: of its content. path: of the file.

        Raises:
            UnreadableImage: when it does not open.
        """
        return self._picture(key, path).image

    def features(
        self, key: str, path: str | os.PathLike, turns: Sequence[Turn] = (AS_GIVEN,)
    ) -> dict[Turn, torch.Tensor]:
        """Return the features of versions of a picture; arguments and errors as of ``image`` and ``image_features``."""
        picture = self._picture(key, path)
        missing = [turn for turn in turns if turn not in picture.features]
        picture.features |= image_features(self._model, picture.image, self._sides, missing)
        return {turn: picture.features[turn] for turn in turns}
