"""Arguments that several commands take."""

from __future__ import annotations

import argparse

from segswap.errors import InputError
from segswap.geometry import STRIDE
from segswap.models.hub import SHIPPED


def add_checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--checkpoint``, for ``load_checkpoint``."""
    parser.add_argument(
        "--checkpoint",
        default=str(SHIPPED),
        help="model: file, folder, or owner/model of the Hugging Face hub, for example "
        "results/demo/checkpoints/stage2.pt (default: the one that comes with segswap)",
    )


def add_side_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--side``, to be looked at with ``check_side``; None: that of the model's training."""
    parser.add_argument(
        "--side",
        type=int,
        help="in pixels that pictures are squashed to (default: of the model's training; of the one that comes with "
        "segswap 480)",
    )


def check_side(side: int | None) -> None:
    """Raise ``InputError`` for a ``--side`` that no picture can have."""
    if side is not None and (side <= 0 or side % STRIDE):
        raise InputError(f"--side {side}: expected a positive multiple of {STRIDE}")
