r"""Search every altered detail among the pictures.

Example:
    python workflow/scripts/predict_altered.py --pictures resources/demo/brueghel/images \
        --queries out/altered/queries.json --index out/index --matched 8 \
        --checkpoint results/demo/checkpoints/stage2.pt --predictions out/predictions.parquet
"""

from __future__ import annotations

from segswap.benchmarks.altered import load
from segswap.benchmarks.altered_matching import predict
from segswap.benchmarks.predictions import write_predictions
from segswap.device import add_device_argument, pick_device
from segswap.matching.predict import add_matcher_arguments, load_matcher
from segswap.models.segswap import SegSwap
from segswap.program import argument_parser, run, whole_number
from segswap.search.index import open_index


def main() -> None:
    """Parse the arguments and search."""
    parser = argument_parser(__doc__)
    parser.add_argument("--pictures", required=True, help="folder of the pictures that are searched")
    parser.add_argument("--queries", required=True, help="queries.json of the altered details")
    parser.add_argument("--index", required=True, help="folder of the pictures' index")
    parser.add_argument("--matched", type=whole_number(0), required=True, help="places that the matcher looks at")
    add_matcher_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--predictions", required=True, help="predictions to write (Parquet)")
    args = parser.parse_args()
    model = SegSwap(*load_matcher(args.checkpoint, args.baseline)).to(pick_device(args.device)).eval()
    index = open_index(args.pictures, model, args.index)
    write_predictions(predict(load(args.queries), index, model, args.matched), args.predictions)


if __name__ == "__main__":
    run(main)
