r"""Match one chunk of the image pairs of a collection.

Example:
    python workflow/scripts/match_collection.py \
        --collection results/demo/features/discovery-paintings/images.json \
        --pairs results/demo/discovery/paintings-pairs.npz --chunk 1 --chunks 2 \
        --settings '{"flip": false, "min_share": 0.005, "protocol": "corrected"}' \
        --features results/demo/features/discovery-paintings/features.npy \
        --checkpoint results/demo/checkpoints/stage2.pt --predictions out/paintings-predictions-1.npz
"""

from __future__ import annotations

from segswap.benchmarks.predictions import add_chunk_arguments, chunk_rows
from segswap.device import add_device_argument, pick_device
from segswap.discovery.candidates import read_pairs
from segswap.discovery.collection import read_collection
from segswap.discovery.matching import match_collection
from segswap.discovery.predictions import MatchSettings
from segswap.matching.features import FeatureStore
from segswap.matching.predict import add_matcher_arguments, load_matcher
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and match."""
    parser = argument_parser(__doc__)
    parser.add_argument("--collection", required=True, help="list of the images")
    parser.add_argument("--pairs", required=True, help="image pairs of all chunks")
    add_chunk_arguments(parser, "pairs")
    parser.add_argument("--settings", type=settings(MatchSettings), required=True, help="as JSON")
    parser.add_argument("--features", required=True, help="feature store of the collection")
    add_matcher_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--predictions", required=True, help="predictions to write (npz)")
    args = parser.parse_args()
    collection = read_collection(args.collection)
    pairs = read_pairs(args.pairs)
    backbone, matcher = load_matcher(args.checkpoint, args.baseline)
    store = FeatureStore(args.features, backbone, collection.feature_names(args.settings.flip))
    own = pairs[list(chunk_rows(len(pairs), args.chunks, args.chunk))]
    count, device = len(collection.images), pick_device(args.device)
    match_collection(store, count, own, matcher, args.settings, device).write(args.predictions)


if __name__ == "__main__":
    run(main)
