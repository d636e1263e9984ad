r"""Write the report of a run: one page with numbers, curves, pictures, and what the data are.

Example:
    python workflow/scripts/report_page.py --title 'SegSwap: demo' \
        --pictures '{"pairs": "results/demo/pictures/pairs.jpg"}' \
        --objects '{"train": "results/demo/objects/train/objects.json"}' \
        --pair-sets '{"train 1obj": "results/demo/pairs/train/1obj/manifest.json"}' \
        --galleries '{"train 1obj": "results/demo/galleries/train-1obj.html"}' \
        --summary results/demo/tables/summary.html --history results/demo/plots/history.svg \
        --provenance results/demo/provenance.html --output out/report.html
"""

from __future__ import annotations

from segswap.program import argument_parser, json_object, run
from segswap.report.page import write_page


def main() -> None:
    """Parse the arguments and write the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--title", required=True, help="of the page")
    for name in ("pictures", "objects", "pair-sets", "galleries"):
        parser.add_argument(f"--{name}", type=json_object, required=True, help="files by name, as JSON")
    parser.add_argument("--summary", required=True, help="summary table (HTML)")
    parser.add_argument("--history", required=True, help="curves (SVG)")
    parser.add_argument("--clusters", help="page of the clusters of discovery (HTML)")
    parser.add_argument("--provenance", required=True, help="software, files, times and settings (HTML)")
    parser.add_argument("--output", required=True, help="page to write")
    args = parser.parse_args()
    write_page(
        args.output,
        args.title,
        summary=args.summary,
        history=args.history,
        pictures=args.pictures,
        objects=args.objects,
        pair_sets=args.pair_sets,
        galleries=args.galleries,
        clusters=args.clusters,
        provenance=args.provenance,
    )


if __name__ == "__main__":
    run(main)
