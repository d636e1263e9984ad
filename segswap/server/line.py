"""Computations stand in line: there is one model, and two at a time would both take more than twice as long."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

from segswap.server.refused import Refused


@dataclasses.dataclass(eq=False)
class Place:
    """A place in the line.

    Attributes:
        ticket: chosen by who asks, to ask how far it is.
        what: is being done, for people.
        began: on the monotonic clock, when the computation's turn came; None before.
        done, total: steps of the computation; 0 of 0 where it does not say.
    """

    ticket: str
    what: str
    began: float | None = None
    done: int = 0
    total: int = 0

    def step(self, what: str, done: int, total: int | None) -> None:
        """Note how far the computation is; a ``segswap.progress.Listener``."""
        self.what, self.done, self.total = what, done, total or 0

    def seconds(self) -> float:
        """Return the seconds since the computation's turn came; 0 before."""
        return 0.0 if self.began is None else round(time.monotonic() - self.began, 1)


class Line:
    """One computation at a time, first come, first served; a bounded number waits."""

    def __init__(self, waiting: int) -> None:
        """Open a line in which up to ``waiting`` computations wait for the one at work."""
        self._room = waiting + 1
        self._places: list[Place] = []
        self._moved = threading.Condition()

    @contextlib.contextmanager
    def turn(self, ticket: str, what: str) -> Iterator[Place]:
        """Wait for this computation's turn, and hold it.

        Raises:
            Refused: 503 when the line is full.
        """
        place = Place(ticket, what)
        with self._moved:
            if len(self._places) >= self._room:
                raise Refused(503, "the server is busy and as many as may are waiting; try again in a moment")
            self._places.append(place)
            self._moved.wait_for(lambda: self._places[0] is place)
            place.began = time.monotonic()
        try:
            yield place
        finally:
            with self._moved:
                self._places.remove(place)
                self._moved.notify_all()

    def status(self, ticket: str) -> dict[str, Any]:
        """Return how far the computation of a ticket is.

        Returns:
            ``ahead``: computations before it, null where it is not in line; ``what``, ``seconds``, ``done`` and
            ``total`` of the one at work, null where there is none.
        """
        with self._moved:
            ahead = next((n for n, place in enumerate(self._places) if place.ticket == ticket), None)
            first = self._places[0] if self._places else None
            if first is None or first.began is None:
                return {"ahead": ahead, "what": None, "seconds": None, "done": None, "total": None}
            own = {"what": first.what, "seconds": first.seconds(), "done": first.done, "total": first.total}
            return {"ahead": ahead, **own}
