"""Match all pairs of images of a class."""

from __future__ import annotations

import argparse

from segswap.benchmarks import internet
from segswap.benchmarks.internet_matching import predict
from segswap.device import pick_device
from segswap.matching.features import FeatureStore
from segswap.matching.predict import load_matcher
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and predict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="folder of the classes")
    parser.add_argument("--class-name", required=True)
    parser.add_argument("--settings", type=settings(internet.InternetSettings), required=True, help="as JSON")
    parser.add_argument("--features", required=True, help="feature store of the class")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--baseline", help="calibrated threshold: match by cosine instead of the transformer")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--predictions", required=True, help="predictions to write (npz)")
    args = parser.parse_args()
    images = internet.load(args.folder, args.class_name)
    backbone, matcher = load_matcher(args.checkpoint, args.baseline)
    store = FeatureStore(args.features, backbone, internet.feature_names(images, args.settings.flip))
    predict(images, store, matcher, args.settings, pick_device(args.device)).write(args.predictions)


if __name__ == "__main__":
    run(main)
