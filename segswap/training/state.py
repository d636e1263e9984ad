"""The rolling state of a training: written while it runs, so that a killed run goes on where it was.

Snakemake deletes the declared outputs of a job before it starts and after it fails, so the state lives in a
folder that no rule declares, named after a key of everything that decides the training's result. It is
removed once the declared outputs are written: a forced rerun trains anew.

Where Snakemake alone was killed, its jobs go on. The next run distrusts their outputs and makes them again, so
a training that has lost its Snakemake leaves its state: made again is then read again. While it still trains, it
holds the state, and the next run's job says so and stops.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

from segswap.errors import InputError
from segswap.files import claim
from segswap.program import Interrupted
from segswap.weights import read_state_dict, write_state_dict


def starters() -> list[int]:
    """Return the process ids of the shell and the Snakemake that started this program, as they are now.

    An orphan has others than at its start. Empty where the system does not tell (no ``/proc``).
    """
    found, process = [], os.getpid()
    # Between a program and Snakemake is a shell, and where several processes train, torchrun.
    for _ in range(3 if "LOCAL_RANK" in os.environ else 2):
        try:
            after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
        except OSError:
            break
        process = int(after_name.split()[1])
        found.append(process)
    return found


class RollingState:
    """Saves and finds a training's state; keeps the one before the last in case the last is damaged."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key
        self._last, self._previous = self.folder / "state.pt", self.folder / "previous.pt"
        self._starters = starters()
        self._claim: IO[str] | None = None

    def save(self, content: dict[str, Any]) -> None:
        """Write the state; the last one becomes the previous one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._last.exists():
            self._last.replace(self._previous)
        write_state_dict(self._last, content)

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
        """Delete the folder: the declared outputs are in place. An orphan leaves it to the next run."""
        if starters() != self._starters:
            print(f"what started this training has ended before it: {self.folder} stays for the next run", flush=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._claim:
            self._claim.close()


class StopRequest:
    """Turns SIGTERM, SIGINT and a time limit into a question the loop can ask between two steps."""

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
