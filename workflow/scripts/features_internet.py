"""Compute the backbone's features of the images of a class."""

from __future__ import annotations

import argparse

from segswap.benchmarks import internet
from segswap.device import pick_device
from segswap.matching.features import extract_features
from segswap.models.checkpoint import load_checkpoint
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="folder of the classes")
    parser.add_argument("--class-name", required=True)
    parser.add_argument("--settings", type=settings(internet.InternetSettings), required=True, help="as JSON")
    parser.add_argument("--checkpoint", required=True, help="holds the backbone")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--store", required=True, help="feature store to write")
    args = parser.parse_args()
    images = internet.load(args.folder, args.class_name)
    names = internet.feature_names(images, args.settings.flip)
    loaders = internet.image_loaders(images, args.settings.flip)
    model, _ = load_checkpoint(args.checkpoint, pick_device(args.device))
    extract_features(names, loaders, model.backbone, (args.settings.image_size,) * 2, args.store)


if __name__ == "__main__":
    run(main)
