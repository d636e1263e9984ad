r"""Plot the losses and validations of all trainings.

Example:
    python workflow/scripts/plot_history.py \
        --histories '{"pretraining": "results/demo/backbone/history.csv",
            "stage 1": "results/demo/history/stage1.csv", "stage 2": "results/demo/history/stage2.csv"}' \
        --output out/history.svg
"""

from __future__ import annotations

from segswap.program import argument_parser, json_object, run
from segswap.report.plots import plot_history


def main() -> None:
    """Parse the arguments and plot."""
    parser = argument_parser(__doc__)
    parser.add_argument("--histories", type=json_object, required=True, help="CSV by name of the training, as JSON")
    parser.add_argument("--output", required=True, help="figure to write (SVG)")
    args = parser.parse_args()
    plot_history(args.histories, args.output)


if __name__ == "__main__":
    run(main)
