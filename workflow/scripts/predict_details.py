"""Search every query in a part of the paintings."""

from __future__ import annotations

import argparse

from segswap.benchmarks import brueghel
from segswap.benchmarks.brueghel_matching import predict
from segswap.benchmarks.predictions import chunk_rows, write_predictions
from segswap.device import pick_device
from segswap.matching.features import FeatureStore
from segswap.matching.predict import load_matcher
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and predict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the paintings")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--database", required=True, help="feature store of the paintings")
    parser.add_argument("--queries", required=True, help="feature store of the queries")
    parser.add_argument("--settings", type=settings(brueghel.BrueghelSettings), required=True, help="as JSON")
    parser.add_argument("--chunk", type=int, required=True, help="part of the paintings, from 0")
    parser.add_argument("--chunks", type=int, required=True, help="number of parts")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--baseline", help="calibrated threshold: match by cosine instead of the transformer")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--predictions", required=True, help="predictions to write (Parquet)")
    args = parser.parse_args()
    dataset = brueghel.load(args.images, args.labels)
    backbone, matcher = load_matcher(args.checkpoint, args.baseline)
    queries = FeatureStore(args.queries, backbone, brueghel.query_names(dataset))
    database = FeatureStore(args.database, backbone, dataset.images)
    part = chunk_rows(len(dataset.images), args.chunks, args.chunk)
    device = pick_device(args.device)
    table = predict(dataset, queries, database, backbone, matcher, args.settings, device, part=part)
    write_predictions(table, args.predictions)


if __name__ == "__main__":
    run(main)
