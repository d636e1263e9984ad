"""The application: requests in, answers out; what is computed lies in ``segswap.matching`` and ``segswap.search``.

The page uses this interface, and programs may. Positions and contours are normalised: (0, 0) is the outer top left
corner of a picture, (1, 1) its bottom right one; boxes are ``[x1, y1, x2, y2]`` in pixels of the picture, turned as its
EXIF data says. A picture is given as an uploaded file, or by its number in the folder.

``GET  /api/folder?page=0&find=text``
    The folder's pictures, 60 a page, those whose name contains the text: ``{"name", "count", "found", "page", "pages",
    "pictures": [{"number", "name"}]}``; 404 without ``--folder``.
``GET  /api/picture/<number>``, ``POST /api/picture`` (``file``)
    What the page shows of a picture: ``{"name", "width", "height", "view"}``, ``view`` the address of a JPEG, for an
    uploaded file as data.
``POST /api/match`` (``a`` or ``a_number``, ``b`` or ``b_number``, ``turns``)
    What two pictures share. ``turns``: ``none`` (where it is absent), ``rotations``, ``flips`` or ``both``: versions of
    the second picture that are tried. ``{"score", "directed": [2], "turn": {"rotation", "mirrored"}, "masks": [2],
    "lines": [{"a": [x, y], "b": [x, y], "colour"}], "alignment": {"views", "words"}, "remarks", "seconds"}``;
    ``views``, where not null, are the shared parts, the second laid on the first; a mask is ``{"columns", "rows",
    "peak", "share", "png", "contours": [[[x, y]]]}``: its largest value, the share of cells above 0.5, as data a grey
    pixel for each cell, 255 for 1, and its outline at 0.5. ``remarks`` say why a match at these sizes says little.
``POST /api/search`` (``file`` or ``number``, optional ``box``: ``x1,y1,x2,y2``)
    The places in the folder's pictures most like the part of a picture in the box, best first; one picture may have
    several: ``{"threshold", "remark", "remarks", "false_positives", "searched", "compared", "left_out", "seconds",
    "query": {"region", "box"}, "hits": [{"number", "name", "width", "height", "score", "p_value", "above", "box",
    "turn", "mask", "lines"}]}``. ``region`` is the part of the query's picture to which the lines' ``a`` are relative.
    ``compared`` is the number of places that the matcher has looked at; elsewhere ``mask`` is null and ``lines`` empty.
``GET  /api/status?ticket=text``
    How far a computation is that was asked for with the same field ``ticket``; see ``segswap.server.line``.
``GET  /image/<number>``, ``GET /thumbnail/<number>``
    A picture of the folder as JPEG, with sides of up to 1600 and 320 pixels.

Errors are ``{"error": text}`` with HTTP's status: 400 for a wrong value, 403 for what may not be asked, 404 for what
there is not, 413 for files or pictures that are too large, 415 for what is no picture, 422 for damaged pictures, 503
when too many computations wait.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from flask import Flask, Request, Response, jsonify, render_template, request

from segswap import __version__
from segswap.drawing import data_uri
from segswap.errors import InputError
from segswap.images import UnreadableImage, decode_image, read_image
from segswap.matching.match import match_images, remark, turns
from segswap.models.segswap import SegSwap
from segswap.progress import heard_by
from segswap.report.document import CSS
from segswap.search.index import Index
from segswap.search.query import parse_box, read_query
from segswap.search.search import SearchSettings, search
from segswap.server.answers import match_answer, search_answer
from segswap.server.folder import VIEW, FolderPictures, jpeg
from segswap.server.guard import protect
from segswap.server.line import Line
from segswap.server.refused import Refused
from segswap.server.uploads import check_upload

PAGE = 60
"""Pictures on a page of the folder's list."""

WAITING = 4
"""Computations that may wait for the one at work."""

TURNS = {
    "none": turns(),
    "rotations": turns(rotations=True),
    "flips": turns(flips=True),
    "both": turns(rotations=True, flips=True),
}

STEPS = {
    "first look (pictures)": "looking at all pictures",
    "windows (pictures)": "searching the pictures",
    "matched (windows)": "comparing the best places",
}
"""What the steps of a search are to people, by the end of the name of their progress."""

_SETTINGS = SearchSettings()

ERRORS = {
    400: "the request is not of the form that this server reads; the module segswap.server.app describes it",
    404: "there is no such page here; the start page is /",
    405: "this address does not answer to that method; the module segswap.server.app describes them",
    413: "the request is too large; send a smaller picture, or start the server with a larger --max-upload",
    500: "the server failed at this request; its terminal says how",
}


class InMemory(Request):
    """A request whose files stay in memory: nothing that people send is written to disk."""

    def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
        return BytesIO()


@dataclasses.dataclass(frozen=True)
class Sent:
    """A picture that a request names: the bytes of its file, or its path in the folder."""

    name: str
    source: bytes | Path

    def read(self) -> np.ndarray:
        """Return its pixels, RGB uint8 (H, W, 3), which takes time and memory; ``Refused`` where it does not open."""
        try:
            return decode_image(self.source) if isinstance(self.source, bytes) else read_image(self.source)
        except UnreadableImage as error:
            raise Refused(422, f"{self.name}: {error}") from None


def sent_picture(field: str, number_field: str, pictures: FolderPictures | None, most_bytes: int) -> Sent:
    """Return the picture of a request: the file in ``field``, or the folder's with the number in ``number_field``.

    Raises:
        Refused: when there is neither, or the file is not in order.
    """
    file = request.files.get(field)
    if file is not None:
        name = file.filename or "the file"
        return Sent(name, check_upload(file.read(), name, most_bytes))
    number = request.form.get(number_field)
    if number is None:
        raise Refused(400, f"no picture: expected a file {field!r} or a number of the folder's, {number_field!r}")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise Refused(400, f"{number_field} {number[:20]!r}: expected the number of a picture of the folder")
    path = existing(pictures).path(int(number))
    return Sent(path.name, path)


def existing(pictures: FolderPictures | None) -> FolderPictures:
    """Return the folder's pictures; ``Refused`` where there is no folder."""
    if pictures is None:
        raise Refused(404, "no folder to search; start the server with --folder")
    return pictures


def view_answer(name: str, image: np.ndarray, view: str) -> Response:
    """Return what the page shows of a picture."""
    return jsonify(name=name, width=image.shape[1], height=image.shape[0], view=view)


def _remarks(named: Iterable[tuple[str, np.ndarray]], sides: tuple[int, int]) -> list[str]:
    """Return what is against the sizes of pictures."""
    said = ((name, remark(image.shape[1::-1], sides)) for name, image in named)
    return [f"{name}: {words}" for name, words in said if words]


def create_app(
    model: SegSwap,
    index: Index | None,
    *,
    sides: tuple[int, int],
    settings: SearchSettings = _SETTINGS,
    negatives: Index | None = None,
    max_upload: float = 40,
    local: bool = True,
) -> Flask:
    """Return the application.

    Args:
        model: in evaluation mode, on the device that is to be used.
        index: of the folder that can be searched; None for none.
        sides: shortest and longest that the longer side of a matched image may be; see ``segswap.matching.match``.
        settings, negatives: of searches; see ``segswap.search.search``.
        max_upload: largest picture that is taken, in MB.
        local: whether the server listens on a loopback address.
    """
    app = Flask(__name__)
    app.request_class = InMemory
    most_bytes = int(max_upload * 1e6)
    app.config["MAX_CONTENT_LENGTH"] = 2 * most_bytes + 100_000
    app.json.compact = True
    line, decoding = Line(WAITING), threading.Lock()
    pictures = index and FolderPictures(index.folder, index.names)
    protect(app, local)

    @app.errorhandler(Refused)
    def refused(error: Refused) -> tuple[Response, int]:
        return jsonify(error=str(error)), error.status

    @app.errorhandler(InputError)
    def wrong_input(error: InputError) -> tuple[Response, int]:
        return jsonify(error=str(error)), 400

    for status, words in ERRORS.items():
        app.register_error_handler(status, lambda _, status=status, words=words: (jsonify(error=words), status))

    @app.get("/")
    def page() -> str:
        return render_template("index.html", version=__version__, pictures=pictures, max_upload=max_upload)

    @app.get("/base.css")
    def base_css() -> Response:
        return Response(CSS, mimetype="text/css")

    @app.get("/api/folder")
    def folder() -> Response:
        shown = existing(pictures)
        text, page = request.args.get("find", "").casefold(), request.args.get("page", 0, type=int)
        found = [number for number in shown.listed if text in shown.names[number].casefold()]
        pages = max(1, -(-len(found) // PAGE))
        page = min(max(page, 0), pages - 1)
        return jsonify(
            name=shown.title,
            count=shown.count,
            found=len(found),
            page=page,
            pages=pages,
            pictures=[{"number": n, "name": shown.names[n]} for n in found[page * PAGE : (page + 1) * PAGE]],
        )

    @app.get("/image/<int:number>")
    def image(number: int) -> Response:
        return _jpeg_of(number, existing(pictures).view)

    @app.get("/thumbnail/<int:number>")
    def thumbnail(number: int) -> Response:
        return _jpeg_of(number, existing(pictures).thumbnail)

    def _jpeg_of(number: int, made: Callable[[int], bytes]) -> Response:
        # Another folder may be served here tomorrow: browsers ask each time, and are told when nothing has changed.
        version = existing(pictures).version(number)
        known = version in request.if_none_match
        response = Response(b"" if known else made(number), status=304 if known else 200, mimetype="image/jpeg")
        response.set_etag(version)
        response.headers["Cache-Control"] = "private, no-cache"
        return response

    @app.get("/api/picture/<int:number>")
    def picture(number: int) -> Response:
        path = existing(pictures).path(number)
        with decoding:
            return view_answer(path.name, Sent(path.name, path).read(), f"/image/{number}")

    @app.post("/api/picture")
    def uploaded_picture() -> Response:
        sent = sent_picture("file", "number", pictures, most_bytes)
        with decoding:
            found = sent.read()
            return view_answer(sent.name, found, data_uri(jpeg(found, VIEW), "image/jpeg"))

    @app.get("/api/status")
    def status() -> Response:
        return jsonify(line.status(request.args.get("ticket", "")))

    @app.post("/api/match")
    def match() -> Response:
        a, b = (sent_picture(side, f"{side}_number", pictures, most_bytes) for side in "ab")
        kind = request.form.get("turns", "none")
        if kind not in TURNS:
            raise Refused(400, f"turns {kind[:20]!r}: expected one of {', '.join(TURNS)}")
        with line.turn(request.form.get("ticket", ""), "comparing") as place:
            first, second = a.read(), b.read()
            found = match_images(model, first, second, sides, TURNS[kind])
            remarks = _remarks([(a.name, first), (b.name, second)], sides)
            return jsonify(match_answer(found, first, second) | {"remarks": remarks, "seconds": place.seconds()})

    @app.post("/api/search")
    def find() -> Response:
        def heard(what: str, done: int, total: int | None) -> None:
            place.step(next((words for end, words in STEPS.items() if what.endswith(end)), "searching"), done, total)

        shown = existing(pictures)
        sent = sent_picture("file", "number", pictures, most_bytes)
        box = parse_box(request.form["box"]) if request.form.get("box") else None
        with line.turn(request.form.get("ticket", ""), "searching") as place, heard_by(heard):
            query = read_query(sent.source, box, sent.name)
            answer = search_answer(search(index, model, query, settings, negatives), index, shown.hidden)
            about = {"false_positives": settings.false_positives, "seconds": place.seconds()}
            return jsonify(answer | about | {"remarks": _remarks([(query.name, query.detail)], sides)})

    return app
