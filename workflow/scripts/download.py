r"""Download one published file.

The file is fetched over HTTP, continued from where an earlier attempt was broken off, and compared with the size
that the server announces and with the expected size and SHA-256 where these are known. Where the SHA-256 is not
known, that of the first download is recorded, and every later download has to match it.

Example:
    python workflow/scripts/download.py \
        --url https://raw.githubusercontent.com/XiSHEN0220/ArtMiner/master/data/brueghelTest.json \
        --sha256 f3933d8131064e13353c74dcf44ecddb9449d945bab9d07c09edbaad69db84c5 --size 728289 \
        --output out/labels.json
"""

from __future__ import annotations

from segswap.download import download, fetch
from segswap.program import argument_parser, run, whole_number


def main() -> None:
    """Parse the arguments and download."""
    parser = argument_parser(__doc__)
    parser.add_argument("--url", required=True, help="address of the file")
    parser.add_argument("--output", required=True, help="where the file goes")
    parser.add_argument("--sha256", help="expected SHA-256, 64 hexadecimal digits")
    parser.add_argument("--size", type=whole_number(0), help="expected size in bytes")
    parser.add_argument("--record", help="JSON file that keeps size and SHA-256 of the first download of this URL")
    args = parser.parse_args()
    if args.record is None:
        download(args.url, args.output, sha256=args.sha256, size=args.size)
    else:
        fetch(args.url, args.output, args.record, sha256=args.sha256, size=args.size)


if __name__ == "__main__":
    run(main)
