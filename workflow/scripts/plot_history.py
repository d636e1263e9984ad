"""Plot the losses and validations of all trainings."""

from __future__ import annotations

import argparse

from segswap.program import json_value, run
from segswap.report.plots import plot_history


def main() -> None:
    """Parse the arguments and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=json_value, required=True, help="CSV by name of the training, as JSON")
    parser.add_argument("--output", required=True, help="figure to write (SVG)")
    args = parser.parse_args()
    plot_history(args.histories, args.output)


if __name__ == "__main__":
    run(main)
