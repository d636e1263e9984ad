r"""Write down where the numbers of a run come from: software, settings, files by their hash, time and memory.

Example:
    python workflow/scripts/provenance.py --config '{"run": "demo", "seed": 1}' \
        --files results/demo/pairs/train/1obj/manifest.json results/demo/checkpoints/stage2.pt \
        --records resources/.records --times results/demo/benchmarks --json out/provenance.json \
        --html out/provenance.html
"""

from __future__ import annotations

from segswap.program import argument_parser, json_object, run
from segswap.report.provenance import collect, write_provenance
from segswap.report.times import read_costs


def main() -> None:
    """Parse the arguments, hash the files and write both forms."""
    parser = argument_parser(__doc__)
    parser.add_argument("--config", type=json_object, required=True, help="the whole configuration, as JSON")
    parser.add_argument("--files", nargs="+", required=True, help="what the results rest on; hashed")
    parser.add_argument("--records", required=True, help="folder of the records of downloads (JSON); may be absent")
    parser.add_argument("--times", nargs="+", required=True, help="folders of the jobs' times (TSV)")
    parser.add_argument("--snakemake", help="version of the Snakemake that runs the workflow")
    parser.add_argument("--json", required=True, help="provenance to write, for programs")
    parser.add_argument("--html", required=True, help="the same for people")
    args = parser.parse_args()
    content = collect(args.config, args.files, args.records, read_costs(args.times), args.snakemake)
    write_provenance(content, args.json, args.html)


if __name__ == "__main__":
    run(main)
