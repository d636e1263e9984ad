"""Match pictures, search and compare them, find what they share; show and check pairs; say what a file is."""

from __future__ import annotations

import argparse
import importlib
import sys

from segswap import __version__
from segswap.program import HelpFormatter, examples_epilog, exit_codes_epilog, run
from segswap.threads import limit_threads

COMMANDS = {
    "match": "match two pictures",
    "search": "find where in a folder a detail, or a picture, occurs again",
    "discover": "find what the images of a folder share",
    "serve": "compare and search pictures on a page in the browser, served by this machine",
    "pair": "render one pair of a configured set: pictures, labels, recipe",
    "pairs": "check a pair set (verify)",
    "export": "write a checkpoint in another form: safetensors, the published one, ONNX",
    "unused": "name shared results that no run uses any more",
    "info": "say what a model, a pair set or a feature store is",
}

EXAMPLES = """
segswap match a.jpg b.jpg -o out
segswap search --query a.jpg --box 40,60,180,200 --folder pictures -o out
segswap discover pictures -o out --checkpoint results/demo/checkpoints/stage2.pt
segswap info results/demo/checkpoints/stage2.pt
"""


def argument_parser(called: str | None) -> argparse.ArgumentParser:
    """Return the command's parser, with the arguments of the subcommand that is called."""
    parser = argparse.ArgumentParser(
        prog="segswap",
        description=__doc__,
        epilog="\n\n".join(
            (examples_epilog(EXAMPLES), exit_codes_epilog(), "segswap COMMAND --help says more of each command.")
        ),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, meaning in COMMANDS.items():
        if name != called:
            commands.add_parser(name, help=meaning, description=meaning)
            continue
        # Only the command that is called is imported: PyTorch alone takes seconds.
        module = importlib.import_module(f"segswap.commands.{name}")
        command = commands.add_parser(
            name,
            help=meaning,
            description=module.__doc__,
            epilog=examples_epilog(module.EXAMPLES),
            formatter_class=HelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(execute=module.execute)
    return parser


def _command() -> None:
    """Parse the arguments and execute the subcommand."""
    called = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    args = argument_parser(called).parse_args()
    limit_threads()
    args.execute(args)


def main() -> None:
    """Run the command; see ``segswap --help``."""
    run(_command, check_times=False)


if __name__ == "__main__":
    main()
