"""The command ``segswap``: match pictures, find what they share, show and check pairs, say what a file is."""

from __future__ import annotations

import argparse
import importlib
import sys

from segswap import __version__
from segswap.program import run

COMMANDS = {
    "match": "match two pictures",
    "search": "find where in a folder a detail, or a picture, occurs again",
    "discover": "find what the images of a folder share",
    "pair": "render one pair of a configured set: pictures, labels, recipe",
    "pairs": "check a pair set (verify)",
    "export": "write a checkpoint in another form: the published one, or ONNX",
    "unused": "name shared results that no run uses any more",
    "info": "say what a checkpoint, a pair set or a feature store is",
}


def main() -> None:
    """Run the command; see ``segswap --help``."""
    parser = argparse.ArgumentParser(prog="segswap", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    # Only the command that is called is imported: PyTorch alone takes seconds.
    called = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    module = importlib.import_module(f"segswap.commands.{called}") if called in COMMANDS else None
    for name, meaning in COMMANDS.items():
        command = commands.add_parser(name, help=meaning, description=module.__doc__ if name == called else meaning)
        if name == called:
            module.add_arguments(command)
    args = parser.parse_args()
    run(lambda: module.execute(args), check_times=False)


if __name__ == "__main__":
    main()
