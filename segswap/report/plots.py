"""Training curves as one SVG, the same bytes for the same numbers."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segswap.errors import InputError
from segswap.files import whole_file

_LOSSES = {"loss": "total", "mask_loss": "mask", "correspondence_loss": "correspondence"}
_ACCURACIES = {"accuracy_positive": "positive pairs", "accuracy_negative": "negative pairs"}
_HELD_OUT = "heldout_"
_COLOURS = ("#c2410c", "#0369a1", "#15803d", "#7e22ce", "#a16207", "#be185d")

_STYLE = {
    # Fixed ids and fonts left to the reader: the file does not change with the time or the machine.
    "svg.hashsalt": "segswap",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}

Series = dict[str, list[tuple[float, float]]]
"""Points (step, value) by column."""


def read_history(path: str | os.PathLike) -> Series:
    """Read a history of training: CSV with a column ``step``; places without a number are left out.

    Raises:
        InputError: when the file is missing, has no column ``step`` or holds what is not a number.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable history ({error}); run the training again") from None
    series: Series = {}
    for number, row in enumerate(rows, 2):
        try:
            step = float(row["step"])
            for name, value in row.items():
                if name != "step" and value:
                    series.setdefault(name, []).append((step, float(value)))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}, line {number}: expected a column step and numbers ({error!r}); run the training again"
            ) from None
    return series


def _held_out(series: Series) -> dict[str, str]:
    """Return the held-out columns to draw: shares in [0, 1] of all pairs together.

    Errors in cells would need an axis of their own; numbers by kind and style (``mask_iou_1obj``) would make
    twenty lines of four.
    """
    found = {}
    for name, points in series.items():
        part = any(name.startswith(f"{whole}_") for whole in found)
        share = "error" not in name and all(0 <= value <= 1 for _, value in points)
        if name.startswith(_HELD_OUT) and share and not part:
            found[name] = name.removeprefix(_HELD_OUT).replace("_", " ")
    return found


def _panel(axes: Axes, series: Series, labels: Mapping[str, str], title: str) -> None:
    colours = iter(_COLOURS * math.ceil(len(labels) / len(_COLOURS)))
    for name, label in labels.items():
        if name in series:
            steps, values = zip(*series[name], strict=True)
            marker = "o" if len(steps) < 30 else None
            axes.plot(steps, values, color=next(colours), label=label, marker=marker, markersize=2.5)
    axes.set_title(title, loc="left")
    axes.set_xlabel("step")
    axes.set_xlim(0, max(step for points in series.values() for step, _ in points) * 1.02)
    if list(labels) != ["loss"]:
        # Below the axes: within them a legend hides lines wherever it is put.
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, columnspacing=1.2)


def draw_history(histories: Mapping[str, Series]) -> Figure:
    """Return a figure of training curves: a column per training, with losses, accuracies and held-out numbers.

    Args:
        histories: points by column, by the training's name.
    """
    groups = {
        name: {
            "losses": {column: label for column, label in _LOSSES.items() if column in series},
            "accuracies": {column: label for column, label in _ACCURACIES.items() if column in series},
            "held-out pairs": _held_out(series),
        }
        for name, series in histories.items()
    }
    kinds = [kind for kind in ("losses", "accuracies", "held-out pairs") if any(g[kind] for g in groups.values())]
    n_rows, n_columns = max(1, len(kinds)), max(1, len(groups))
    figure = Figure(figsize=(3.6 * n_columns, 2.9 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for column, (name, panels) in enumerate(groups.items()):
        for row, kind in enumerate(kinds):
            if not panels[kind]:
                grid[row, column].remove()
                continue
            axes = grid[row, column]
            _panel(axes, histories[name], panels[kind], f"{name}: {'loss' if list(panels[kind]) == ['loss'] else kind}")
            if kind == "losses":
                axes.set_ylim(bottom=0)
            else:
                axes.set_ylim(0, 1.02)
    return figure


def plot_history(csv_files: Mapping[str, str | os.PathLike], output_svg: str | os.PathLike) -> None:
    """Write the curves of a run's trainings as SVG.

    Args:
        csv_files: history of each training by its name, for example ``pretraining``, ``stage 1``, ``stage 2``; in
            the order of the columns. A history without rows (a stage that had nothing to learn) stays empty.
        output_svg: the figure.

    Raises:
        InputError: when a history cannot be read.
    """
    histories = {name: read_history(Path(path)) for name, path in csv_files.items()}
    with matplotlib.rc_context(_STYLE):
        figure = draw_history({name: series for name, series in histories.items() if series})
        with whole_file(output_svg) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None, "Type": None})
