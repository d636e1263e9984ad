r"""Compute the statistics of every style image: all that restyling needs of it.

Example:
    python workflow/scripts/style_statistics.py --folder resources/demo/styles --method reinhard \
        --output out/statistics.npz
"""

from __future__ import annotations

from segswap.pairs.style import METHODS, compute_style_statistics, load_stylist
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", required=True, help="folder of style images")
    parser.add_argument(
        "--method", required=True, choices=[method for method in METHODS if method != "none"], help="of restyling"
    )
    parser.add_argument("--vgg", help="AdaIN's encoder")
    parser.add_argument("--decoder", help="AdaIN's decoder")
    parser.add_argument("--device", default="auto", help="torch device, for AdaIN")
    parser.add_argument("--output", required=True, help="statistics to write (npz)")
    args = parser.parse_args()
    compute_style_statistics(args.folder, args.output, load_stylist(args.method, args.vgg, args.decoder, args.device))


if __name__ == "__main__":
    run(main)
