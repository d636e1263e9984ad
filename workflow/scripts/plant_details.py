r"""Plant objects of held-out photos in paintings: a benchmark with Brueghel's labels, made of real pictures.

Example:
    python workflow/scripts/plant_details.py --table results/demo/objects/heldout/objects.parquet \
        --images resources/demo/coco/heldout/images --paintings resources/demo/brueghel/images \
        --settings '{"details": 10, "copies": 5, "distractors": 20, "size": 640, "scale": [0.25, 0.5],
            "rotation": 15, "strength": [0.0, 0.6], "dilation": 6}' \
        --seed 1 --style reinhard --statistics results/demo/styles/statistics.npz --folder out/planted
"""

from __future__ import annotations

from segswap.benchmarks.planted import PlantedSettings, plant_details
from segswap.pairs.objects import ObjectTable
from segswap.pairs.render import Photos
from segswap.pairs.style import add_style_arguments, open_style
from segswap.program import argument_parser, run, settings


def main() -> None:
    """Parse the arguments and plant."""
    parser = argument_parser(__doc__)
    parser.add_argument("--table", required=True, help="object table of held-out photos")
    parser.add_argument(
        "--images", nargs="+", required=True, help="folder of these photos, or the folder of each source"
    )
    parser.add_argument("--paintings", required=True, help="folder of the pictures that objects are planted in")
    parser.add_argument("--settings", type=settings(PlantedSettings), required=True, help="as JSON")
    parser.add_argument("--seed", type=int, required=True, help="of every random choice")
    add_style_arguments(parser)
    parser.add_argument("--folder", required=True, help="folder to write: images/ and labels.json")
    args = parser.parse_args()
    plant_details(
        Photos(ObjectTable.read(args.table), *args.images),
        args.paintings,
        *open_style(args.style, args.statistics, args.vgg, args.decoder, args.device, args.precision),
        args.folder,
        args.settings,
        args.seed,
    )


if __name__ == "__main__":
    run(main)
