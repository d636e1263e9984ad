"""Score the candidates of a part of the queries."""

from __future__ import annotations

import argparse

from segswap.benchmarks import place_data, places
from segswap.benchmarks.places_matching import predict
from segswap.benchmarks.predictions import chunk_rows, write_predictions
from segswap.device import pick_device
from segswap.matching.features import FeatureStore
from segswap.matching.predict import load_matcher
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and predict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--files", type=settings(place_data.PlaceFiles), required=True, help="as JSON")
    parser.add_argument("--settings", type=settings(places.PlaceSettings), required=True, help="as JSON")
    parser.add_argument("--ranking", required=True, help="first ranking and candidates")
    parser.add_argument("--queries", required=True, help="feature store of the queries")
    parser.add_argument("--candidates", required=True, help="feature store of the candidates")
    parser.add_argument("--chunk", type=int, required=True, help="part of the queries, from 0")
    parser.add_argument("--chunks", type=int, required=True, help="number of parts")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--baseline", help="calibrated threshold: match by cosine instead of the transformer")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--predictions", required=True, help="predictions to write (Parquet)")
    args = parser.parse_args()
    dataset = place_data.load(args.folder, args.files)
    _, candidates, _ = places.read_ranking(args.ranking)
    backbone, matcher = load_matcher(args.checkpoint, args.baseline)
    queries = FeatureStore(args.queries, backbone, dataset.queries)
    database = FeatureStore(args.candidates, backbone, places.candidate_names(dataset, candidates))
    rows = chunk_rows(len(dataset.queries), args.chunks, args.chunk)
    device = pick_device(args.device)
    table = predict(dataset, candidates, rows, queries, database, matcher, args.settings, device)
    write_predictions(table, args.predictions)


if __name__ == "__main__":
    run(main)
