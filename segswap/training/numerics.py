"""The arithmetic of a training: number format, compilation, determinism."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from torch import nn

from segswap.device import pick_precision


@dataclasses.dataclass(frozen=True)
class Numerics:
    """How numbers are computed; each of it may change the last digits of a result.

    Attributes:
        precision: of the products in trunk and matcher: ``float32``, ``bfloat16``, or ``auto``: ``bfloat16`` on a GPU.
            Weights, losses and the optimiser are always float32.
        compile: whether ``torch.compile`` makes kernels for the matcher: ``always``, ``never``, or ``auto``: on a GPU.
        deterministic: whether only algorithms that repeat to the last bit are allowed: ``always``, ``never``, or
            ``auto``: on a CPU, where they cost nothing.
    """

    precision: str = "auto"
    compile: str = "auto"
    deterministic: str = "auto"

    def on(self, device: torch.device) -> Numerics:
        """Return what ``auto`` means on a device."""
        gpu = device.type != "cpu"

        def decided(choice: str, automatic: bool) -> str:
            return ("always" if automatic else "never") if choice == "auto" else choice

        precision = pick_precision(self.precision, device, on_gpu="bfloat16")
        return Numerics(precision, decided(self.compile, gpu), decided(self.deterministic, not gpu))

    def compiled(self, matcher: nn.Module) -> nn.Module:
        """Return a matcher, compiled if that is wanted and it is ``compilable``; after ``on``."""
        return torch.compile(matcher) if self.compile == "always" and matcher.compilable else matcher

    @contextlib.contextmanager
    def repeatable(self) -> Iterator[None]:
        """Allow deterministic algorithms only for a while, if that is wanted; after ``on``."""
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(before or self.deterministic == "always")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
