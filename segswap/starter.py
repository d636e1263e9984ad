"""The Snakemake that started this program, and whether it still runs.

Where Snakemake alone is killed, its jobs go on. The next run does not know what they write then: it makes it again, or,
worse, plans by files that appear under its hands. So the programs ask here before they put anything in place.
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


def _snakemake_above() -> int | None:
    """Return the process id of the Snakemake that started this program; None for one started by hand."""
    for process in _ancestors():
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        # "snakemake ...", "python .../bin/snakemake ...", "python -m snakemake ..."
        if any(word.endswith("snakemake/__main__.py") or Path(word).name == "snakemake" for word in words[:3]):
            return process
    return None


_SNAKEMAKE = _snakemake_above()


def is_orphan() -> bool:
    """Return whether the Snakemake that started this program has ended; never so for one started by hand."""
    return _SNAKEMAKE is not None and _SNAKEMAKE not in _ancestors()
