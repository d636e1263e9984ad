"""The rolling state of a training: written while it runs, so that a killed run goes on where it was.

Snakemake deletes the declared outputs of a job before it starts and after it fails, so the state lives in a
folder that no rule declares, named after a key of everything that decides the training's result. It is
removed once the declared outputs are written: a forced rerun trains anew.

A training whose Snakemake has ended stops as for a signal, its state saved; and as long as one trains, it holds the
state, and another run's job says so and stops.
"""

from __future__ import annotations

import dataclasses
import shutil
import signal
import time
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

from segswap.errors import InputError
from segswap.files import claim
from segswap.program import Interrupted
from segswap.starter import is_orphan
from segswap.weights import read_state_dict, write_state_dict


def used_fields(settings: Any) -> dict[str, Any]:
    """Return the fields of a settings dataclass that are not at their defaults, as plain values, for a state's key.

    A field that came later has a default, so a state that was saved before it came keeps its key.
    """
    plain = dataclasses.asdict(settings)
    fields = dataclasses.fields(settings)
    return {field.name: plain[field.name] for field in fields if getattr(settings, field.name) != field.default}


class RollingState:
    """Saves and finds a training's state; keeps the one before the last in case the last is damaged."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key
        self._last, self._previous = self.folder / "state.pt", self.folder / "previous.pt"
        self._claim: IO[str] | None = None

    def save(self, content: dict[str, Any]) -> None:
        """Write the state; the last one becomes the previous one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._last.exists():
            self._last.replace(self._previous)
        write_state_dict(self._last, content, orphan=True)

    def load(self) -> dict[str, Any] | None:
        """Return the newest readable state, or None at the first start; from now on it is this process's alone.

        Raises:
            InputError: when another process still trains with this state.
        """
        self._claim = claim(self.folder / "lock", f"the training in {self.folder}")
        damaged = False
        for path in (self._last, self._previous):
            if path.exists():
                try:
                    return read_state_dict(path)
                except InputError as error:
                    damaged = True
                    print(f"state not usable, trying the one before: {error}", flush=True)
        if damaged:
            print(f"no usable state in {self.folder}: the training starts anew", flush=True)
        return None

    def remove(self) -> None:
        """Delete the folder: the declared outputs are in place."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._claim:
            self._claim.close()


class StopRequest:
    """Turns SIGTERM, SIGINT, a time limit and the end of Snakemake into a question to ask between two steps."""

    def __init__(self, time_limit: float | None = None) -> None:
        """Start listening.

        Args:
            time_limit: seconds from now after which to stop, or None.
        """
        self._deadline = time.monotonic() + time_limit if time_limit else None
        self._signal: int | None = None
        self._handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    @property
    def reason(self) -> str | None:
        """Why to stop, or None."""
        if self._signal is not None:
            return signal.Signals(self._signal).name
        if self._deadline is not None and time.monotonic() > self._deadline:
            return "time limit"
        if is_orphan():
            return "the Snakemake that started this training has ended"
        return None

    def stop(self, where: str) -> NoReturn:
        """Raise ``Interrupted``; the state must have been saved."""
        reason = self.reason or "another process was asked to stop"
        raise Interrupted(f"{reason} at {where}; state saved, start the job again to go on")

    def raise_if_due(self, where: str) -> None:
        """Raise ``Interrupted`` when a stop was asked for; the state must have been saved."""
        if self.reason:
            self.stop(where)

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
