r"""Segment the images of a class of Internet, starting from the principal eigenvector.

Example:
    python workflow/scripts/segment_internet.py --collection results/demo/features/internet-Car100/images.json \
        --settings '{"reduction": "sum", "foreground": 0.6, "protocol": "corrected"}' \
        --graph results/demo/internet/trained/Car100-graph.npz \
        --eigenvectors results/demo/internet/trained/Car100-eigenvectors.npz --masks out/Car100-masks.npz \
        --segmentations out/Car100-segmentations.parquet
"""

from __future__ import annotations

from segswap.benchmarks import internet
from segswap.benchmarks.predictions import write_predictions
from segswap.discovery.clusters import read_eigenvectors
from segswap.discovery.collection import read_collection
from segswap.discovery.graph import CorrespondenceGraph
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and segment."""
    parser = argument_parser(__doc__)
    parser.add_argument("--collection", required=True, help="list of the images")
    parser.add_argument("--settings", type=settings(internet.SegmentationSettings), required=True, help="as JSON")
    parser.add_argument("--graph", required=True, help="correspondence graph: its nodes are read")
    parser.add_argument("--eigenvectors", required=True, help="the principal one is read")
    parser.add_argument("--masks", required=True, help="soft masks to write (npz)")
    parser.add_argument("--segmentations", required=True, help="segmentations to write (Parquet)")
    args = parser.parse_args()
    graph = CorrespondenceGraph.read(args.graph, with_weights=False)
    masks = internet.soft_masks(graph, read_eigenvectors(args.eigenvectors), args.settings)
    found = internet.segment_class(read_collection(args.collection), masks, args.settings.foreground)
    internet.write_masks(args.masks, masks)
    write_predictions(found, args.segmentations)


if __name__ == "__main__":
    run(main)
