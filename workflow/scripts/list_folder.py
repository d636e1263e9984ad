r"""List the pictures of a folder, or its label files, with sizes and times: what stages that read them depend on.

Example:
    python workflow/scripts/list_folder.py --folder resources/demo/styles --kind pictures --list out/styles.json
"""

from __future__ import annotations

from segswap.folder_lists import KINDS, write_list
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and write the list."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", required=True, help="whose files are listed, those of subfolders too")
    parser.add_argument("--kind", choices=KINDS, required=True, help="of files")
    parser.add_argument("--list", required=True, help="to write (JSON)")
    args = parser.parse_args()
    write_list(args.folder, args.kind, args.list)


if __name__ == "__main__":
    run(main)
