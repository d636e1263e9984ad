"""Unpack one downloaded archive.

The members of a zip or tar archive, or those in one folder of it, are written to a new folder. Archives with a
member that would be written outside that folder are refused, damaged ones are reported, and the folder appears
under its name only when it is complete.
"""

from __future__ import annotations

import argparse

from segswap.program import run
from segswap.unpack import unpack


def main() -> None:
    """Parse the arguments and unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", required=True, help="zip, or tar (plain, gzip, bzip2 or xz)")
    parser.add_argument("--output", required=True, help="the folder to make; an older one of that name is replaced")
    parser.add_argument("--prefix", help="take only this folder of the archive, and drop its name")
    args = parser.parse_args()
    unpack(args.archive, args.output, args.prefix)


if __name__ == "__main__":
    run(main)
