"""The server's socket, and its life: taken before anything slow is done, ended by Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket

from flask import Flask
from waitress.server import BaseWSGIServer, create_server

from segswap.errors import InputError

THREADS = 8
"""One computes, a few wait for it, the others show pictures."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; connections wait in it until a server answers them.

    Args:
        host: name or address of this machine. port: 0 for any that is free.

    Raises:
        InputError: when the port is in use or not allowed, or the host is none of this machine.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: expected 0 (any free one) to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(
            f"--host {host}: no such host ({error}); expected 127.0.0.1, or an address of this machine"
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"--port {port}: already in use, perhaps by another segswap serve. Stop that, or choose another port; "
                "--port 0 takes any that is free"
            ) from None
        if error.errno == errno.EACCES:
            raise InputError(f"--port {port}: this user may not listen there; choose one from 1024 on") from None
        raise InputError(f"--host {host}: not an address of this machine ({error.strerror})") from None


def url(listening: socket.socket) -> str:
    """Return the address under which this machine reaches the server."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: Flask, listening: socket.socket) -> BaseWSGIServer:
    """Return the server of an application on a socket; see ``serve``.

    Whole requests and answers stay in memory: nothing that people send is written to disk.
    """
    # That pictures wait a moment, or a computation is at work when the server ends, is no news.
    logging.getLogger("waitress").setLevel(logging.ERROR)
    # Of requests that are somewhat too large the application itself says so, with words.
    room = 2 * app.config["MAX_CONTENT_LENGTH"]
    return create_server(
        app,
        sockets=[listening],
        threads=THREADS,
        max_request_body_size=room,
        inbuf_overflow=room + 1,
        outbuf_overflow=1 << 30,
        ident=None,
    )


def serve(server: BaseWSGIServer) -> None:
    """Answer requests until Ctrl-C, and then let what is being computed come to its end for up to five seconds.

    After that the process ends here, with status 130: there is nothing to save, and threads that compute in the middle
    of an ordinary end make it a crash.
    """
    with contextlib.suppress(KeyboardInterrupt):  # a second one, of someone who does not want to wait
        server.run()
    if server.task_dispatcher.threads:
        print("stopped in the middle of a computation", flush=True)
        os._exit(130)
