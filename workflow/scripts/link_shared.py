r"""Make the links of a run into the folders that runs share, and list them.

Example:
    python workflow/scripts/link_shared.py --run-folder out/demo \
        --links '{"pairs/train/1obj": "results/demo/pairs/train/1obj", "backbone": "results/demo/backbone"}' \
        --record out/demo/shared.json
"""

from __future__ import annotations

from segswap.program import argument_parser, json_object, run
from segswap.sharing import write_links


def main() -> None:
    """Parse the arguments and make the links."""
    parser = argument_parser(__doc__)
    parser.add_argument("--run-folder", required=True, help="folder that gets the links")
    parser.add_argument("--links", type=json_object, required=True, help="shared folder by place in the run's, as JSON")
    parser.add_argument("--record", required=True, help="list of them to write (JSON)")
    args = parser.parse_args()
    write_links(args.run_folder, args.links, args.record)


if __name__ == "__main__":
    run(main)
