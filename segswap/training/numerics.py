"""The arithmetic of a training: number format, compilation, determinism."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from torch import nn

CHOICES = ("auto", "always", "never")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Numerics:
    """How numbers are computed; each of it may change the last digits of a result.

    Attributes:
        precision: of the products in trunk and matcher: ``float32``, ``bfloat16``, or ``auto``: ``bfloat16`` on a GPU.
            Weights, losses and the optimiser are always float32.
        compile: whether ``torch.compile`` makes kernels for the matcher, one of ``CHOICES``; ``auto``: on a GPU.
        deterministic: whether only algorithms that repeat to the last bit are allowed, one of ``CHOICES``; ``auto``:
            on a CPU, where they cost nothing.
    """

    precision: str = "auto"
    compile: str = "auto"
    deterministic: str = "auto"

    def on(self, device: torch.device) -> Numerics:
        """Return what ``auto`` means on a device."""
        gpu = device.type != "cpu"

        def decided(choice: str, automatic: bool) -> str:
            return ("always" if automatic else "never") if choice == "auto" else choice

        precision = ("bfloat16" if gpu else "float32") if self.precision == "auto" else self.precision
        return Numerics(precision, decided(self.compile, gpu), decided(self.deterministic, not gpu))

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager:
        """Return a context in which products are computed in the precision, after ``on``."""
        dtype = PRECISIONS[self.precision]
        return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)

    def compiled(self, module: nn.Module) -> nn.Module:
        """Return the module, compiled if that is wanted; after ``on``."""
        return torch.compile(module) if self.compile == "always" else module

    @contextlib.contextmanager
    def repeatable(self) -> Iterator[None]:
        """Allow deterministic algorithms only for a while, if that is wanted; after ``on``."""
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(before or self.deterministic == "always")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
