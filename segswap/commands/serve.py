"""Compare and search pictures on a page in the browser, served by this machine alone.

Two pictures are chosen, and the page shows what they share; with --folder a detail, drawn as a box on a picture, is
searched in the pictures of that folder. The page is for this machine alone unless --host says otherwise, fetches
nothing from elsewhere, and what is put on it is kept nowhere. To use it from another machine, leave --host out, run
there `ssh -L 8000:localhost:8000` with this machine's name, and open http://localhost:8000.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys

from segswap.commands.arguments import add_checkpoint_argument
from segswap.commands.search_arguments import add_search_arguments, open_negatives, search_settings
from segswap.device import add_device_argument, pick_device
from segswap.errors import InputError
from segswap.matching.match import default_sides
from segswap.models.checkpoint import load_checkpoint
from segswap.search.index import Index, open_index
from segswap.search.search import SearchSettings
from segswap.server.app import create_app
from segswap.server.folder import leads_outside
from segswap.server.guard import is_loopback
from segswap.server.listening import listen, make_server, serve, url

EXAMPLES = """\
segswap serve
segswap serve --folder paintings
segswap serve --folder paintings --port 0 --checkpoint results/demo/checkpoints/stage2.pt
"""

_NO_PASSWORD = (
    "warning: --host {host}: there is no password. Every machine that reaches this one can use the page and see all "
    "pictures of the folder. For yourself alone leave --host out and reach it through ssh -L {port}:localhost:{port}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--folder", help="of pictures to search (default: none, pictures are compared only)")
    add_checkpoint_argument(parser)
    add_search_arguments(parser)
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free (default: %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)"
    )
    parser.add_argument(
        "--max-upload", type=float, default=40, help="largest picture that is taken, in MB (default: %(default)s)"
    )
    add_device_argument(parser)


def _check(args: argparse.Namespace) -> None:
    """Raise ``InputError`` for a value that cannot be meant."""
    if not 0 < args.max_upload <= 1000:
        raise InputError(f"--max-upload {args.max_upload:g}: expected MB, above 0 and up to 1000")
    if args.negatives and not args.folder:
        raise InputError(f"--negatives {args.negatives}: judge scores of a search; name the --folder to search, too")


def _say_hidden(index: Index) -> None:
    """Say which pictures of a folder the page does not show."""
    hidden = [name for name in index.names if leads_outside(index.folder, name)]
    if hidden:
        print(f"{len(hidden)} not shown, being links that lead out of the folder: {', '.join(hidden)}", flush=True)


def execute(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    _check(args)
    settings = search_settings(args)
    # The port first: that another program has it should not be found out when a large folder has been read.
    with contextlib.closing(listen(args.host, args.port)) as listening:
        try:
            _serve(args, settings, listening)
        except KeyboardInterrupt:
            sys.exit(130)
    print("stopped", flush=True)


def _serve(args: argparse.Namespace, settings: SearchSettings, listening: socket.socket) -> None:
    local = is_loopback(args.host)
    if not local:
        print(_NO_PASSWORD.format(host=args.host, port=listening.getsockname()[1]), file=sys.stderr, flush=True)
    model, about = load_checkpoint(args.checkpoint, pick_device(args.device))
    index = open_index(args.folder, model, args.store, args.subfolders) if args.folder else None
    negatives = None
    if args.negatives:
        negatives = open_negatives(args, model, index)
    if index:
        _say_hidden(index)
    app = create_app(
        model,
        index,
        sides=default_sides(about),
        settings=settings,
        negatives=negatives,
        max_upload=args.max_upload,
        local=local,
    )
    print("open this page in a browser; Ctrl-C ends it:", flush=True)
    print(url(listening), flush=True)
    serve(make_server(app, listening))
