"""Describe what this job has - cores, memory, time, GPUs - and say on which device a training would run.

Example:
    python workflow/scripts/check_gpu.py --device auto --gpus 1 --output out/gpu.txt
"""

from __future__ import annotations

from segswap.allocation import describe
from segswap.files import write_text
from segswap.program import argument_parser, run, whole_number


def main() -> None:
    """Parse the arguments, print the report and write it."""
    parser = argument_parser(__doc__)
    parser.add_argument("--device", required=True, help="the configuration's compute.device")
    parser.add_argument("--gpus", type=whole_number(0), required=True, help="how many GPUs were asked for")
    parser.add_argument("--output", required=True, help="text file to write")
    args = parser.parse_args()
    report = describe(args.device, args.gpus)
    print(report)
    write_text(args.output, report)


if __name__ == "__main__":
    run(main)
