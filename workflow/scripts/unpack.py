"""Unpack one downloaded archive.

The members of a zip or tar archive, or those in one folder of it, are written to a new folder. Archives with a
member that would be written outside that folder are refused, and so are those that would fill the disk; damaged ones
are reported, and the folder appears under its name only when it is complete.

Example:
    python workflow/scripts/unpack.py --archive resources/brueghel/Brueghel.zip --output out/paintings
"""

from __future__ import annotations

from segswap.program import argument_parser, run
from segswap.unpack import unpack


def main() -> None:
    """Parse the arguments and unpack."""
    parser = argument_parser(__doc__)
    parser.add_argument("--archive", required=True, help="zip, or tar (plain, gzip, bzip2 or xz)")
    parser.add_argument("--output", required=True, help="the folder to make; an older one of that name is replaced")
    taken = parser.add_mutually_exclusive_group()
    taken.add_argument("--prefix", help="take only this folder of the archive, and drop its name")
    taken.add_argument(
        "--holds",
        nargs="+",
        default=(),
        metavar="PATTERN",
        help="take only the folder that holds files of each of these patterns, and drop its name",
    )
    args = parser.parse_args()
    unpack(args.archive, args.output, args.prefix, args.holds)


if __name__ == "__main__":
    run(main)
