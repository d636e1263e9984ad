r"""Write the manifest of a pair set: its shards with counts, sizes and SHA-256, and how they were made.

Example:
    python workflow/scripts/pair_manifest.py --kind 1obj \
        --settings '{"size": 160, "pairs": 200, "pairs_per_shard": 550, "seed": 1}' \
        --output out/manifest.json results/demo/pairs/heldout/1obj/1obj-000000.tar
"""

from __future__ import annotations

from pathlib import Path

from segswap.pairs.recipe import KINDS
from segswap.pairs.shards import write_set_manifest
from segswap.program import argument_parser, json_object, run


def main() -> None:
    """Parse the arguments and write the manifest."""
    parser = argument_parser(__doc__)
    parser.add_argument("--kind", required=True, choices=KINDS, help="one or two objects in each pair")
    parser.add_argument("--settings", type=json_object, required=True, help="kept in the manifest, as JSON")
    parser.add_argument("--output", required=True, help="manifest.json, in the folder of the shards")
    parser.add_argument("shards", type=Path, nargs="+", help="tar files, in order")
    args = parser.parse_args()
    write_set_manifest(args.shards, args.output, args.kind, args.settings)


if __name__ == "__main__":
    run(main)
