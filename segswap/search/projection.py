"""The projection: features of a backbone to the few numbers by which windows are compared.

Features are centred on a collection, turned to its principal directions, and each direction is divided by its
deviation. Two cells are then alike where they share the unusual, and the common ground of a collection (dark corners,
skies, craquelure) counts little. Directions of small deviation hold noise and are left out.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import torch
from torch.nn import functional as F

from segswap.errors import InputError
from segswap.files import read_arrays, write_arrays
from segswap.weights import tensors_sha256

LENGTH = 64
"""Numbers that are kept of each cell, where the backbone has more."""

_SHRINK = 1e-3
"""Part of the mean variance that each direction gets in addition: a direction without variance has no deviation."""


@dataclasses.dataclass(frozen=True)
class Projection:
    """Features to unit vectors of ``length`` numbers.

    Attributes:
        mean: of the collection, float32 (C,).
        matrix: principal directions over their deviations, float32 (K, C).
    """

    mean: torch.Tensor
    matrix: torch.Tensor

    @property
    def length(self) -> int:
        """The number of numbers of a cell, K."""
        return len(self.matrix)

    @property
    def key(self) -> str:
        """A 16-digit key of the numbers."""
        return tensors_sha256({"mean": self.mean, "matrix": self.matrix})[:16]

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors (..., K) of features (..., C)."""
        return F.normalize((features - self.mean) @ self.matrix.T, dim=-1)

    @classmethod
    def fit(cls, cells: torch.Tensor, length: int = LENGTH) -> Projection:
        """Return the projection of a collection.

        Args:
            cells: features of some of its cells, float32 (N, C).
            length: largest number of directions.
        """
        mean = cells.double().mean(0)
        centred = cells.double() - mean
        covariance = centred.T @ centred / len(cells)
        # A collection of one colour has no variance at all.
        floor = max(_SHRINK * float(covariance.diagonal().mean()), 1e-9)
        values, directions = torch.linalg.eigh(covariance + floor * torch.eye(len(mean), dtype=torch.float64))
        values, directions = values.flip(0)[:length], directions.flip(1)[:, :length]
        # The sign of a direction is arbitrary; fixed, equal collections give equal files.
        signs = torch.sign(directions.gather(0, directions.abs().argmax(0, keepdim=True)))
        return cls(mean.float(), (directions * signs / values.sqrt()).T.contiguous().float())

    def save(self, path: str | os.PathLike) -> None:
        """Write the projection as a whole npz file."""
        write_arrays(path, mean=self.mean.numpy(), matrix=self.matrix.numpy())

    @classmethod
    def read(cls, path: str | os.PathLike) -> Projection:
        """Read a file of ``save``.

        Raises:
            InputError: when the file is missing, damaged, or holds something else.
        """
        arrays = read_arrays(path, "the projection of an index", ("mean", "matrix"))
        mean, matrix = arrays["mean"], arrays["matrix"]
        if matrix.ndim != 2 or mean.shape != matrix.shape[1:] or mean.dtype != np.float32 or matrix.dtype != np.float32:
            raise InputError(f"{path}: holds no projection; delete the folder and run again")
        return cls(torch.from_numpy(mean), torch.from_numpy(matrix))
