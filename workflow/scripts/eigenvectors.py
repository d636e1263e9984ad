r"""Compute the eigenvectors of a correspondence graph: the principal one, or those of several clusters.

Example:
    python workflow/scripts/eigenvectors.py --graph results/demo/discovery/trained/paintings-graph.npz \
        --clusters 20 --node-share 0.2 --eigenvectors out/paintings-eigenvectors.npz
"""

from __future__ import annotations

from segswap.discovery.clusters import leading_clusters, principal_only
from segswap.discovery.graph import CorrespondenceGraph
from segswap.program import argument_parser, run, whole_number


def main() -> None:
    """Parse the arguments and compute."""
    parser = argument_parser(__doc__)
    parser.add_argument("--graph", required=True, help="correspondence graph")
    parser.add_argument(
        "--clusters", type=whole_number(1), help="largest number of clusters; else the principal eigenvector alone"
    )
    parser.add_argument("--node-share", type=float, help="of a cluster's largest entry: nodes above it belong to it")
    parser.add_argument("--protocol", default="corrected", help="sign rule of the principal eigenvector")
    parser.add_argument("--eigenvectors", required=True, help="eigenvectors to write (npz)")
    args = parser.parse_args()
    weights = CorrespondenceGraph.read(args.graph).weights
    if args.clusters is None:
        found = principal_only(weights, args.protocol)
    else:
        found = leading_clusters(weights, args.clusters, args.node_share)
    print(f"eigenvalues: {', '.join(f'{value:.4g}' for value in found.values) or 'none, the graph has no edges'}")
    found.write(args.eigenvectors)


if __name__ == "__main__":
    run(main)
