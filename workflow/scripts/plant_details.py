"""Plant objects of held-out photos in paintings: a benchmark with Brueghel's labels, made of real pictures."""

from __future__ import annotations

import argparse

from segswap.benchmarks.planted import PlantedSettings, plant_details
from segswap.pairs.objects import ObjectTable
from segswap.pairs.render import Photos
from segswap.pairs.style import add_style_arguments, open_style
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and plant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="object table of held-out photos")
    parser.add_argument("--images", required=True, help="folder of these photos")
    parser.add_argument("--paintings", required=True, help="folder of the pictures that objects are planted in")
    parser.add_argument("--settings", type=settings(PlantedSettings), required=True, help="as JSON")
    parser.add_argument("--seed", type=int, required=True)
    add_style_arguments(parser)
    parser.add_argument("--folder", required=True, help="folder to write: images/ and labels.json")
    args = parser.parse_args()
    plant_details(
        Photos(ObjectTable.read(args.table), args.images),
        args.paintings,
        *open_style(args.style, args.statistics, args.vgg, args.decoder, args.device, args.precision),
        args.folder,
        args.settings,
        args.seed,
    )


if __name__ == "__main__":
    run(main)
