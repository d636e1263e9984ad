"""Write down where the numbers of a run come from: software, settings, files by their hash, time and memory."""

from __future__ import annotations

import argparse

from segswap.program import json_value, run
from segswap.report.provenance import collect, write_provenance
from segswap.report.times import read_costs


def main() -> None:
    """Parse the arguments, hash the files and write both forms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=json_value, required=True, help="the whole configuration, as JSON")
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
