"""What the jobs of a run cost: time, memory and processors, from the files that Snakemake's ``benchmark:`` writes."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from segswap.errors import InputError


@dataclasses.dataclass(frozen=True)
class Cost:
    """What all jobs of a rule cost together.

    Attributes:
        jobs: how many were measured; a job that was not run again counts with its last run.
        seconds: wall-clock time, summed over the jobs.
        longest: seconds of the longest job.
        memory: largest resident memory of one job in MB (2**20 bytes), all its processes together; None where no
            job lived long enough to be looked at.
        load: processors in use, in percent of one, mean over the time of the jobs; None as for ``memory``.
    """

    jobs: int
    seconds: float
    longest: float
    memory: float | None
    load: float | None


def _value(row: dict[str, str | None], column: str) -> float | None:
    """Return a number of a row, None where the job was too short for it: Snakemake then writes NA or -."""
    text = row.get(column)
    return None if text in (None, "", "NA", "-") else float(text)


def _rows(path: Path) -> list[tuple[float, float | None, float | None]]:
    """Return seconds, memory and mean load of each repetition of a job."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, delimiter="\t")
            return [(float(row["s"]), _value(row, "max_rss"), _value(row, "mean_load")) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a job's times as Snakemake writes them (columns s, max_rss, mean_load; {error!r}); delete it"
        ) from None


def read_costs(folders: Iterable[str | os.PathLike]) -> dict[str, Cost]:
    """Return the cost of each rule, the longest first.

    Args:
        folders: each holds one tab-separated file for each job, ``<rule>.tsv`` or ``<rule>-<job>.tsv``, with the
            columns ``s``, ``max_rss`` and ``mean_load``. A folder that is not there holds none.

    Raises:
        InputError: naming a file of another form.
    """
    jobs: dict[str, list[tuple[float, float | None, float | None]]] = defaultdict(list)
    for folder in folders:
        for path in sorted(Path(folder).glob("*.tsv")):
            jobs[path.stem.split("-")[0]] += _rows(path)
    costs = {}
    for rule, rows in jobs.items():
        if not rows:
            continue
        measured = [(seconds, load) for seconds, _, load in rows if load is not None]
        time = sum(seconds for seconds, _ in measured)
        costs[rule] = Cost(
            jobs=len(rows),
            seconds=sum(seconds for seconds, _, _ in rows),
            longest=max(seconds for seconds, _, _ in rows),
            memory=max((memory for _, memory, _ in rows if memory is not None), default=None),
            load=sum(seconds * load for seconds, load in measured) / time if time else None,
        )
    return dict(sorted(costs.items(), key=lambda item: (-item[1].seconds, item[0])))
