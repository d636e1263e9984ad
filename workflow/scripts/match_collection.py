"""Match one chunk of the image pairs of a collection."""

from __future__ import annotations

import argparse

from segswap.benchmarks.predictions import chunk_rows
from segswap.device import pick_device
from segswap.discovery.candidates import read_pairs
from segswap.discovery.collection import read_collection
from segswap.discovery.matching import match_collection
from segswap.discovery.predictions import MatchSettings
from segswap.matching.features import FeatureStore
from segswap.matching.predict import load_matcher
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and match."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", required=True, help="list of the images")
    parser.add_argument("--pairs", required=True, help="image pairs of all chunks")
    parser.add_argument("--chunk", type=int, required=True)
    parser.add_argument("--chunks", type=int, required=True)
    parser.add_argument("--settings", type=settings(MatchSettings), required=True, help="as JSON")
    parser.add_argument("--features", required=True, help="feature store of the collection")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--baseline", help="calibrated threshold: match by cosine instead of the transformer")
    parser.add_argument("--device", default="auto")
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
