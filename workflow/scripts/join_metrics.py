r"""Put the numbers of the trained model and of both baselines side by side, in one flat file.

Example:
    python workflow/scripts/join_metrics.py --trained results/demo/pitts30k/trained/metrics.json \
        --untrained results/demo/pitts30k/untrained/metrics.json \
        --baseline results/demo/pitts30k/baseline/metrics.json --output out/pitts30k.json
"""

from __future__ import annotations

from segswap.files import read_json_object, write_json
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and join."""
    parser = argument_parser(__doc__)
    parser.add_argument("--trained", required=True, help="keys stay as they are")
    parser.add_argument("--untrained", required=True, help="keys get the prefix untrained_")
    parser.add_argument("--baseline", required=True, help="keys get the prefix baseline_")
    parser.add_argument("--sift", help="keys get the prefix sift_, where a benchmark has them")
    parser.add_argument("--output", required=True, help="numbers to write (JSON)")
    args = parser.parse_args()
    joined = {}
    files = {"": args.trained, "untrained_": args.untrained, "baseline_": args.baseline, "sift_": args.sift}
    for prefix, path in files.items():
        if path is not None:
            joined |= {prefix + key: value for key, value in read_json_object(path).items()}
    write_json(args.output, joined)


if __name__ == "__main__":
    run(main)
