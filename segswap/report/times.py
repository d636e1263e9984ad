"""How long the stages of a run took."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path


def read_times(*folders: str | os.PathLike) -> dict[str, float]:
    """Return the seconds of each stage, all its jobs together, longest first.

    Args:
        folders: hold one tab-separated file for each job, ``<stage>.tsv`` or ``<stage>-<job>.tsv``, with a column
            ``s``. Jobs that were not run again have the time of their last run.
    """
    seconds: dict[str, float] = defaultdict(float)
    for path in sorted(path for folder in folders for path in Path(folder).glob("*.tsv")):
        with open(path, newline="", encoding="utf-8") as file:
            seconds[path.stem.split("-")[0]] += sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))
