r"""Search every query in a part of the paintings.

Example:
    python workflow/scripts/predict_details.py --images resources/demo/brueghel/images \
        --labels resources/demo/brueghel/labels.json --database results/demo/features/brueghel/database.npy \
        --queries results/demo/features/brueghel/queries.npy \
        --settings '{"image_size": 160, "query_size": 64, "box_scales": [14, 12, 10, 8], "thresholds": [],
            "protocol": "corrected"}' \
        --chunk 0 --chunks 2 --checkpoint results/demo/checkpoints/stage2.pt --predictions out/predictions-0.parquet
"""

from __future__ import annotations

from segswap.benchmarks import brueghel
from segswap.benchmarks.brueghel_matching import predict
from segswap.benchmarks.predictions import add_chunk_arguments, chunk_rows, write_predictions
from segswap.device import add_device_argument, pick_device
from segswap.matching.features import FeatureStore
from segswap.matching.predict import add_matcher_arguments, load_matcher
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and predict."""
    parser = argument_parser(__doc__)
    brueghel.add_data_arguments(parser)
    parser.add_argument("--database", required=True, help="feature store of the paintings")
    parser.add_argument("--queries", required=True, help="feature store of the queries")
    parser.add_argument("--settings", type=settings(brueghel.BrueghelSettings), required=True, help="as JSON")
    add_chunk_arguments(parser, "paintings")
    add_matcher_arguments(parser)
    add_device_argument(parser)
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
