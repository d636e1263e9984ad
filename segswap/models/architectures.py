"""The matchers that a model can have, by the names that files of weights call them.

Another architecture is one more entry: what reads and writes weights asks here which matcher to build.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from segswap.models.ncnet import NcNet, NcNetSettings
from segswap.models.transformer import Transformer, TransformerSettings


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How a matcher is built.

    Attributes:
        matcher: module that is made from settings alone and keeps them as ``settings``.
        settings: dataclass of values that JSON can hold.
    """

    matcher: type[nn.Module]
    settings: type[Any]


ARCHITECTURES = {
    "transformer": Architecture(Transformer, TransformerSettings),
    "ncnet": Architecture(NcNet, NcNetSettings),
}


def architecture_of(matcher: nn.Module) -> str:
    """Return the name of a matcher's architecture.

    Raises:
        ValueError: when it is none of ``ARCHITECTURES``.
    """
    for name, architecture in ARCHITECTURES.items():
        if type(matcher) is architecture.matcher:
            return name
    raise ValueError(f"{type(matcher).__name__}: no architecture of {sorted(ARCHITECTURES)}")
