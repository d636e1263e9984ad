"""Draw queries of a place recognition benchmark with the best image of each ranking."""

from __future__ import annotations

import argparse

from segswap.benchmarks import place_data, places
from segswap.benchmarks.pictures import draw_places
from segswap.benchmarks.predictions import read_by_matcher
from segswap.program import run, settings


def main() -> None:
    """Parse the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--files", type=settings(place_data.PlaceFiles), required=True, help="as JSON")
    parser.add_argument("--settings", type=settings(places.PlaceSettings), required=True, help="as JSON")
    parser.add_argument("--ranking", required=True, help="first ranking and candidates")
    parser.add_argument("--trained", nargs="+", required=True, help="predictions of the trained model")
    parser.add_argument("--untrained", nargs="+", required=True)
    parser.add_argument("--baseline", nargs="+", required=True)
    parser.add_argument("--output", required=True, help="picture to write")
    args = parser.parse_args()
    tables = read_by_matcher(args.trained, args.untrained, args.baseline)
    dataset = place_data.load(args.folder, args.files)
    ranking, candidates, _ = places.read_ranking(args.ranking)
    draw_places(dataset, ranking, candidates, tables, args.settings, args.output, count=10)


if __name__ == "__main__":
    run(main)
