r"""Bring the clusters of a collection back to its images: regions, and the correspondences between them.

Example:
    python workflow/scripts/cluster_regions.py \
        --collection results/demo/features/discovery-paintings/images.json \
        --graph results/demo/discovery/trained/paintings-graph.npz \
        --eigenvectors results/demo/discovery/trained/paintings-eigenvectors.npz --region-share 0.1 \
        --regions out/paintings-regions.parquet --correspondences out/paintings-correspondences.parquet
"""

from __future__ import annotations

from segswap.benchmarks.predictions import write_predictions
from segswap.discovery.clusters import cluster_correspondences, cluster_regions, read_eigenvectors
from segswap.discovery.collection import read_collection
from segswap.discovery.graph import CorrespondenceGraph
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments and find the regions."""
    parser = argument_parser(__doc__)
    parser.add_argument("--collection", required=True, help="list of the images")
    parser.add_argument("--graph", required=True, help="correspondence graph: its nodes are read")
    parser.add_argument("--eigenvectors", required=True, help="of the clusters")
    parser.add_argument("--region-share", type=float, required=True, help="cells and regions below it are left out")
    parser.add_argument("--regions", required=True, help="regions to write (Parquet)")
    parser.add_argument("--correspondences", required=True, help="correspondences to write (Parquet)")
    args = parser.parse_args()
    graph = CorrespondenceGraph.read(args.graph, with_weights=False)
    made_of = graph, read_eigenvectors(args.eigenvectors), read_collection(args.collection)
    write_predictions(cluster_regions(*made_of, args.region_share), args.regions)
    write_predictions(cluster_correspondences(*made_of), args.correspondences)


if __name__ == "__main__":
    run(main)
