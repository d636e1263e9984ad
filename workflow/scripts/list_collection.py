r"""List the images of a collection, and check its ground truth before any work is done.

Example:
    python workflow/scripts/list_collection.py --folder resources/demo/brueghel/images \
        --labels resources/demo/brueghel/labels.json --collection out/images.json
"""

from __future__ import annotations

from segswap.benchmarks import brueghel, internet
from segswap.discovery.collection import Collection, check_size
from segswap.program import argument_parser, run


def main() -> None:
    """Parse the arguments, check and list."""
    parser = argument_parser(__doc__)
    parser.add_argument("--folder", required=True, help="folder of the images, or of the classes of Internet")
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--class-name", help="class of Internet")
    truth.add_argument("--labels", help="labels of Brueghel")
    parser.add_argument("--collection", required=True, help="list of images to write (JSON)")
    args = parser.parse_args()
    if args.class_name:
        collection = internet.load(args.folder, args.class_name)
    else:
        dataset = brueghel.load(args.folder, args.labels)
        collection = check_size(Collection(dataset.folder, dataset.images))
    collection.write(args.collection)


if __name__ == "__main__":
    run(main)
