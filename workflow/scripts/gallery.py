r"""Make the gallery of a pair set: a self-contained page, and a contact sheet.

Example:
    python workflow/scripts/gallery.py --manifest results/demo/pairs/train/1obj/manifest.json --pairs 64 \
        --page out/train-1obj.html --sheet out/train-1obj.jpg
"""

from __future__ import annotations

from segswap.program import argument_parser, run, whole_number
from segswap.report.galleries import gallery_sheet, write_gallery


def main() -> None:
    """Parse the arguments and make the gallery."""
    parser = argument_parser(__doc__)
    parser.add_argument("--manifest", required=True, help="manifest.json of the set")
    parser.add_argument("--pairs", type=whole_number(1), required=True, help="pairs in the page, spread over the set")
    parser.add_argument("--page", required=True, help="page to write (HTML)")
    parser.add_argument("--sheet", required=True, help="contact sheet of ten pairs to write (JPEG)")
    args = parser.parse_args()
    write_gallery(args.manifest, args.page, args.pairs)
    gallery_sheet(args.manifest, args.sheet, min(10, args.pairs))


if __name__ == "__main__":
    run(main)
