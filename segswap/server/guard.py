"""Who may ask: a page of another site, open in the same browser, must neither read nor command this server.

Such a page can send requests to the loopback address, and by a name of its own that leads there (DNS rebinding) even
read the answers. So a server on a loopback address answers to loopback names alone, a request that computes must come
from our own page or from a program, and no other site may embed what is served.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from flask import Flask, Response, request

from segswap.server.refused import Refused

_HEADERS = {
    # Scripts, styles and requests: our own files alone. Pictures may also be in the answers, as data.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Return whether a host, a name or an address without brackets, is this machine as only it can reach itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _name(host: str) -> str:
    """Return the name or address of a Host header, without port and brackets; empty for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def check_host(host: str) -> None:
    """Raise ``Refused`` for a Host header that is no loopback name."""
    if not is_loopback(_name(host)):
        raise Refused(403, f"this server answers to localhost and 127.0.0.1 alone, not to {host!r}: open it so")


def check_origin(host: str, origin: str | None, site: str | None) -> None:
    """Raise ``Refused`` where another site's page asks; programs, which send neither header, may.

    Args:
        host: Host header.
        origin: Origin header. site: Sec-Fetch-Site header. None where absent.
    """
    foreign_site = site not in (None, "same-origin", "none")
    foreign_origin = origin is not None and urlsplit(origin).netloc != host
    if foreign_site or foreign_origin:
        raise Refused(403, "this request comes from a page of another site; use the page of this server itself")


def protect(app: Flask, local: bool) -> None:
    """Check every request before it is answered, and put the headers of security on every answer.

    Args:
        local: whether the server listens on a loopback address.
    """

    @app.before_request
    def check() -> None:
        if local:
            check_host(request.host)
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            check_origin(request.host, request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site"))

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response
