r"""Write the page of a collection's clusters.

Example:
    python workflow/scripts/cluster_page.py --collection results/demo/features/discovery-paintings/images.json \
        --regions results/demo/discovery/trained/paintings-regions.parquet \
        --correspondences results/demo/discovery/trained/paintings-correspondences.parquet \
        --output out/clusters.html
"""

from __future__ import annotations

from segswap.benchmarks.predictions import read_predictions
from segswap.discovery.collection import read_collection
from segswap.program import argument_parser, run
from segswap.report.clusters import write_clusters_page


def main() -> None:
    """Parse the arguments and write."""
    parser = argument_parser(__doc__)
    parser.add_argument("--collection", required=True, help="list of the images")
    parser.add_argument("--regions", required=True, help="regions of the clusters")
    parser.add_argument("--correspondences", required=True, help="between the regions of a cluster")
    parser.add_argument("--output", required=True, help="page to write (HTML)")
    args = parser.parse_args()
    regions, correspondences = (read_predictions([path]) for path in (args.regions, args.correspondences))
    write_clusters_page(read_collection(args.collection), regions, correspondences, args.output)


if __name__ == "__main__":
    run(main)
