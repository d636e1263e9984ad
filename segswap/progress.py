"""How long work shows itself, and makes room for other work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from tqdm import tqdm

from segswap.threads import making_room

T = TypeVar("T")
LOG_SECONDS = 30.0

Listener = Callable[[str, int, int | None], None]
"""Is told what is done, the items done, and how many there are; None where that is not known."""

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Tell a listener, too, how far the loops are that begin in this block, in this thread."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


class _Bar(tqdm):
    """A bar that tells a listener of each item, and between items makes room for other programs."""

    makes_room = True

    def __iter__(self) -> Iterator[Any]:
        items = super().__iter__()
        if self.makes_room:
            items = making_room(items)
        listener = _LISTENER.get()
        if listener is None or self.disable:
            yield from items
            return
        for done, item in enumerate(items, start=self.initial):
            listener(self.desc, done, self.total)
            yield item


def progress(
    items: Iterable[T] | None,
    what: str,
    total: int | None = None,
    initial: int = 0,
    makes_room: bool = True,
    **shown: Any,
) -> tqdm:
    """Wrap an iterable so that its progress is shown on standard error.

    On a terminal the bar is redrawn in place; in a file a line is written at most every 30 seconds. Between items the
    threads of PyTorch follow what other programs leave of the cores, unless ``makes_room`` is false; see
    ``threads.making_room``. ``shown`` goes to ``tqdm``: units, for example.
    """
    terminal = sys.stderr.isatty()
    bar = _Bar(
        items,
        desc=what,
        total=total,
        initial=initial,
        mininterval=0.1 if terminal else LOG_SECONDS,
        maxinterval=10 if terminal else LOG_SECONDS,
        file=sys.stderr,
        ascii=not terminal,
        dynamic_ncols=terminal,
        **shown,
    )
    bar.makes_room = makes_room
    return bar


def byte_progress(what: str, total: int | None, initial: int = 0) -> tqdm:
    """Return a bar that counts bytes, shown as ``progress`` shows items; to be updated and closed by the caller."""
    return progress(None, what, total, initial, unit="B", unit_scale=True)
