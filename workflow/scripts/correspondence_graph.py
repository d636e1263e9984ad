r"""Connect the correspondences of a collection that agree.

Example:
    python workflow/scripts/correspondence_graph.py \
        --collection results/demo/features/discovery-paintings/images.json \
        --settings '{"top_k": 5, "mask_threshold": 0.5, "two_cycles": true, "mask_weighting": false, "sigma": 2.0,
            "protocol": "corrected"}' \
        --graph out/paintings-graph.npz results/demo/discovery/trained/paintings-predictions-0.npz \
        results/demo/discovery/trained/paintings-predictions-1.npz
"""

from __future__ import annotations

from segswap.discovery.collection import read_collection
from segswap.discovery.graph import GraphSettings, collection_graph
from segswap.discovery.predictions import read_pair_predictions
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and connect."""
    parser = argument_parser(__doc__)
    parser.add_argument("--collection", required=True, help="list of the images")
    parser.add_argument("--settings", type=settings(GraphSettings), required=True, help="as JSON")
    parser.add_argument("--graph", required=True, help="correspondence graph to write (npz)")
    parser.add_argument("predictions", nargs="+", help="of all chunks")
    args = parser.parse_args()
    count = len(read_collection(args.collection).images)
    collection_graph(read_pair_predictions(args.predictions), count, args.settings).write(args.graph)


if __name__ == "__main__":
    run(main)
