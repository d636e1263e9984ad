"""Connect the correspondences of a collection that agree."""

from __future__ import annotations

import argparse

from segswap.discovery.collection import read_collection
from segswap.discovery.graph import GraphSettings, collection_graph
from segswap.discovery.predictions import read_pair_predictions
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and connect."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", required=True, help="list of the images")
    parser.add_argument("--settings", type=settings(GraphSettings), required=True, help="as JSON")
    parser.add_argument("--graph", required=True, help="correspondence graph to write (npz)")
    parser.add_argument("predictions", nargs="+", help="of all chunks")
    args = parser.parse_args()
    count = len(read_collection(args.collection).images)
    collection_graph(read_pair_predictions(args.predictions), count, args.settings).write(args.graph)


if __name__ == "__main__":
    run(main)
