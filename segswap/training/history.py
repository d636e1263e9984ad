"""What a training says of itself while it runs: rows of numbers, kept as CSV and shown by TensorBoard."""

from __future__ import annotations

import csv
import io
import os

import numpy as np

_PLACE = ("epoch", "step")

Row = dict[str, float]
"""``epoch``, ``step`` and numbers by name."""


def history_csv(rows: list[Row]) -> str:
    """Return the history as CSV: one row per logged step or validated epoch, empty where a number is absent."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    return text.getvalue()


class Board:
    """A TensorBoard folder that follows a training: every number as a curve, pictures of validations."""

    def __init__(self, folder: str | os.PathLike | None, step: int) -> None:
        """Open the folder.

        Args:
            folder: None for a board that shows nothing.
            step: where the training goes on; what the board shows from there on is of an attempt that was cut short.
        """
        self._writer = None
        if folder:
            # Takes a second to load, and most programs that know histories show no board.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def show(self, row: Row) -> None:
        """Show a row of the history."""
        if self._writer:
            for name, value in row.items():
                if name not in _PLACE:
                    group = "heldout" if name.startswith("heldout_") else "training"
                    self._writer.add_scalar(f"{group}/{name.removeprefix('heldout_')}", value, row["step"])
            self._writer.flush()

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        """Show a picture, RGB uint8 (H, W, 3)."""
        if self._writer:
            self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Write out what is left."""
        if self._writer:
            self._writer.close()
