"""What started this program, and whether it still runs.

Where a workflow's scheduler alone is killed, its jobs go on. Its next run does not know what they write then: it makes
it again, or, worse, plans by files that appear under its hands. So the programs ask here before they put anything in
place. The workflow says in ``SEGSWAP_STARTER`` which process started the job's shell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def _ancestors() -> Iterator[int]:
    """Yield the process ids of what started this program, of what started that, and so on."""
    process = os.getpid()
    while process > 1:
        try:
            after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
        except OSError:
            return  # no /proc, or it has just ended
        process = int(after_name.split()[1])
        yield process


def _starter() -> int | None:
    """Return the process that the workflow names; None where it names none, or one of another machine or container."""
    named = os.environ.get("SEGSWAP_STARTER", "")
    return int(named) if named.isdigit() and int(named) in _ancestors() else None


_STARTER = _starter()


def is_orphan() -> bool:
    """Return whether what started this program has ended since; never so for a program started by hand."""
    return _STARTER is not None and _STARTER not in _ancestors()
