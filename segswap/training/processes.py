"""Several processes that train one model: what they share, and how a program finds out that it is one of them.

``torchrun`` starts the processes and tells each its number in the environment. A program started without it is the
only one: every function here then does nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import datetime
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")

_PATIENCE = datetime.timedelta(hours=6)
"""How long processes wait for the first one, which validates alone."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0; the first one alone writes files.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes; it carries no gradient when there are several."""
        if self.count == 1:
            return values
        values = values.detach().clone()
        distributed.all_reduce(values)
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether the flag is up in any process."""
        # Asked after every step: one process alone need not wait for its GPU.
        if self.count == 1:
            return flag
        return bool(self.total(torch.tensor(float(flag), device=device)) > 0)

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what ``make`` gives in the first process; the others wait for it."""
        if self.count == 1:
            return make()
        # An error of the first process ends all: the others would wait for hours.
        content = [make() if self.first else None]
        distributed.broadcast_object_list(content)
        return content[0]

    def share_gradients(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return the module such that ``backward`` leaves each process the mean of all processes' gradients."""
        if self.count == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, [device] if device.type == "cuda" else None)


@contextlib.contextmanager
def training_processes(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the other processes that ``torchrun`` started, over NCCL on GPUs and gloo on CPUs.

    Args:
        device: what the configuration asks for; each process takes a GPU of its own.

    Yields:
        this process among all, and its device.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    # Kept until the program ends. DistributedDataParallel holds the group, too; were its hold the last one, letting go
    # would wait for the group's threads while these wait for the interpreter: a training that never ends, now and then
    # (pytorch/pytorch#56297). Where Python's own hold is the last, the interpreter is free meanwhile.
    atexit.register(id, distributed.group.WORLD)
    try:
        yield Processes(distributed.get_rank(), count), device
    finally:
        distributed.destroy_process_group()
