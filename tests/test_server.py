"""The server: what it answers, and what it refuses."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from serving import DETAIL, SIDES, draw_folder, equal_finder, make_app

from segswap.drawing import encode_picture, write_picture
from segswap.images import decode_image, encode_jpeg, read_image
from segswap.search.index import open_index
from segswap.search.search import SearchSettings
from segswap.server.app import create_app
from segswap.server.line import Line
from segswap.server.refused import Refused

LINK = 5
"""Number of the link that leads out of the folder."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("served") / "my paintings")


@pytest.fixture(scope="module")
def store(folder: Path) -> Path:
    return folder.parent / "store"


@pytest.fixture(scope="module")
def client(folder, store):
    return make_app(folder, store, max_upload=0.2).test_client()


def make_app_without_folder():
    return create_app(equal_finder(), None, sides=SIDES).test_client()


def upload(path: Path) -> tuple[io.BytesIO, str]:
    return io.BytesIO(path.read_bytes()), path.name


def png_of(width: int, height: int) -> bytes:
    """Return a small PNG file that says it is of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def decoded(uri: str) -> np.ndarray:
    start, data = uri.split(",")
    assert start in ("data:image/png;base64", "data:image/jpeg;base64")
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)


class TestMatch:
    def test_two_uploads_share_what_is_equal(self, client, folder):
        found = client.post("/api/match", data={side: upload(folder / f"{side}.png") for side in "ab"}).json
        assert found["score"] > 2 and found["turn"] == {"rotation": 0, "mirrored": False}
        for mask, left in zip(found["masks"], (16, 32), strict=True):
            grey = decoded(mask["png"])
            assert grey.shape == (mask["rows"], mask["columns"]) == (6, 6) and mask["peak"] == 1
            assert mask["share"] == pytest.approx((grey > 127).mean(), abs=1e-4)
            rows, columns = np.nonzero(grey > 127)
            assert set(rows) == {1, 2, 3, 4} and set(columns * 16) == {left, left + 16, left + 32, left + 48}
            corners = np.concatenate(mask["contours"])
            assert corners.min() >= 0 and corners.max() <= 1
        assert found["lines"]
        for line in found["lines"]:
            # From the box to the picture, to a cell and a half: a tenth of the detail's side each.
            there = (np.array(line["a"]) * 64 + (32, 16)) / 96
            assert line["b"] == pytest.approx(there.tolist(), abs=0.1)
            assert re.fullmatch("#[0-9a-f]{6}", line["colour"])

    def test_a_picture_and_itself_lie_over_each_other(self, client):
        found = client.post("/api/match", data={"a_number": 0, "b_number": 0}).json
        assert found["masks"][0]["share"] == found["masks"][1]["share"] == 1
        first, second = map(decoded, found["alignment"]["views"])
        assert first.shape == second.shape and np.abs(first.astype(int) - second).mean() < 3

    def test_sizes_that_say_little_have_a_remark(self, client):
        dot = encode_picture(np.zeros((1, 1, 3), np.uint8), ".png")
        found = client.post("/api/match", data={"a": (io.BytesIO(dot), "dot.png"), "b_number": 0}).json
        assert len(found["remarks"]) == 1 and found["remarks"][0].startswith("dot.png: 1 x 1 pixels are fewer")
        found = client.post("/api/search", data={"file": (io.BytesIO(dot), "dot.png")}).json
        assert found["remarks"][0].startswith("dot.png: 1 x 1 pixels are fewer")
        assert client.post("/api/match", data={"a_number": 1, "b_number": 0}).json["remarks"] == []

    def test_pictures_that_share_nothing_have_no_lines_and_no_views(self, client):
        found = client.post("/api/match", data={"a_number": 0, "b_number": 2}).json
        assert found["masks"][0]["share"] == 0 and found["lines"] == [] and found["masks"][0]["contours"] == []
        assert found["alignment"]["views"] is None and "correspond" in found["alignment"]["words"]

    def test_a_turned_picture_is_found_where_turns_are_tried(self, client, folder):
        turned = encode_picture(np.rot90(read_image(folder / "a.png")), ".png")
        fields = {"a_number": 0, "turns": "both"}
        found = client.post("/api/match", data={**fields, "b": (io.BytesIO(turned), "turned.png")}).json
        assert found["turn"] == {"rotation": 270, "mirrored": False} and found["masks"][1]["share"] == 1

    @pytest.mark.parametrize(
        ("fields", "status", "words"),
        [
            ({}, 400, "no picture: expected a file 'a'"),
            ({"a_number": 0}, 400, "no picture: expected a file 'b'"),
            ({"a_number": 0, "b_number": 99}, 404, "no picture 99; the folder's are 0 to 5"),
            ({"a_number": 0, "b_number": LINK}, 403, "leads out of the folder"),
            ({"a_number": 0, "b_number": 1, "turns": "all"}, 400, "expected one of none, rotations, flips, both"),
            *(
                ({"a_number": number, "b_number": 0}, 400, "expected the number of a picture")
                for number in ("-1", "1e3", "٣", "", "9" * 5000, "../../etc/passwd", "0\n", "a.png")
            ),
        ],
    )
    def test_what_is_no_request_is_refused(self, client, fields, status, words):
        answer = client.post("/api/match", data=fields)
        assert answer.status_code == status and words in answer.json["error"]


class TestSearch:
    @pytest.mark.parametrize("by_number", [True, False])
    def test_the_picture_with_the_detail_comes_first(self, client, folder, by_number):
        query = {"number": 0} if by_number else {"file": upload(folder / "a.png")}
        found = client.post("/api/search", data={**query, "box": ",".join(map(str, DETAIL))}).json
        first = found["hits"][0]
        assert first["name"] == "b.png" and first["number"] == 1 and (first["width"], first["height"]) == (96, 96)
        assert first["box"] == pytest.approx([32, 16, 96, 80], abs=16)
        for line in first["lines"]:
            # From the box to the picture, to a cell and a half: a tenth of the detail's side each.
            there = (np.array(line["a"]) * 64 + (32, 16)) / 96
            assert line["b"] == pytest.approx(there.tolist(), abs=0.1)
        assert first["above"] and first["score"] > found["threshold"] >= 0 and 0 < first["p_value"] <= 0.3
        assert not any(hit["above"] for hit in found["hits"][1:]) and found["false_positives"] == 0.3
        assert found["left_out"] == ["a.png"] and found["searched"] == 5

    def test_a_link_out_of_the_folder_is_no_hit(self, client):
        found = client.post("/api/search", data={"number": 0}).json
        assert {hit["number"] for hit in found["hits"]} == {1, 2, 3, 4}

    def test_without_enough_to_judge_by_there_is_no_threshold(self, folder, store):
        app = make_app(folder, store, settings=SearchSettings())
        found = app.test_client().post("/api/search", data={"number": 0}).json
        assert found["threshold"] is None and "at least 99 pictures" in found["remark"]
        assert {hit["above"] for hit in found["hits"]} == {None}

    @pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "40,10,20,30", "nan,0,9,9", "500,500,600,600", "0,0,inf,9"])
    def test_a_wrong_box_is_refused(self, client, box):
        answer = client.post("/api/search", data={"number": 0, "box": box})
        assert answer.status_code == 400 and "box" in answer.json["error"]

    def test_without_a_folder_there_is_none_to_search(self):
        client = make_app_without_folder()
        for answer in (
            client.post("/api/search", data={"number": 0}),
            client.get("/api/folder"),
            client.get("/image/0"),
        ):
            assert answer.status_code == 404 and "start the server with --folder" in answer.json["error"]
        assert "--folder my-pictures" in client.get("/").text


class TestUploads:
    def refused(self, client, data: bytes, name: str = "x.jpg", address: str = "/api/picture") -> tuple[int, str]:
        answer = client.post(address, data={"file": (io.BytesIO(data), name)})
        return answer.status_code, answer.json["error"]

    def test_a_picture_is_shown_as_it_is_meant(self, client):
        picture = np.full((40, 60, 4), (200, 30, 30, 255), np.uint8)
        found = client.post("/api/picture", data={"file": (io.BytesIO(encode_jpeg(picture[..., :3])), "a<b>.jpg")}).json
        assert (found["name"], found["width"], found["height"]) == ("a<b>.jpg", 60, 40)
        assert decoded(found["view"]).shape == (40, 60, 3)

    def test_a_large_picture_is_shown_smaller(self, client):
        data = encode_jpeg(np.zeros((20, 3200, 3), np.uint8))
        found = client.post("/api/picture", data={"file": (io.BytesIO(data), "wide.jpg")}).json
        assert (found["width"], found["height"]) == (3200, 20) and decoded(found["view"]).shape == (10, 1600, 3)

    @pytest.mark.parametrize(
        "data", [b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"\0" * 5000]
    )
    def test_what_is_no_picture_is_refused(self, client, data):
        assert self.refused(client, data, "notes.txt") == (
            415,
            "notes.txt: not a picture of a known format; expected JPEG, PNG, TIFF, WebP, GIF or BMP "
            "(save HEIC as JPEG)",
        )

    def test_damaged_and_empty_files_are_refused(self, client):
        whole = encode_picture(np.zeros((50, 50, 3), np.uint8), ".png")
        status, words = self.refused(client, whole[:60])
        assert status == 422 and words.startswith("x.jpg: ")
        assert self.refused(client, b"")[0] == 400

    def test_too_many_bytes_or_pixels_are_refused(self, client):
        status, words = self.refused(client, b"\xff" * 250_000)
        assert status == 413 and "0.2 MB; at most 0.2 MB" in words and "--max-upload" in words
        status, words = self.refused(client, b"\xff" * 900_000)
        assert status == 413 and "--max-upload" in words
        for size in ((20_000, 5_000), (60_000, 60_000)):
            status, words = self.refused(client, png_of(*size))
            assert status == 413 and "million pixels" in words

    def test_a_damaged_file_of_the_folder_is_an_error_too(self, folder, tmp_path):
        own = tmp_path / "own"
        own.mkdir()
        for name in "ab":
            write_picture(own / f"{name}.png", read_image(folder / f"{name}.png"))
        client = make_app(own, tmp_path / "store").test_client()
        (own / "a.png").write_bytes(b"no longer a picture")
        (own / "b.png").unlink()
        assert [client.get(f"/image/{number}").status_code for number in (0, 1)] == [422, 404]
        assert client.post("/api/match", data={"a_number": 0, "b_number": 0}).status_code == 422


class TestFolder:
    def test_pictures_are_listed_without_links_that_lead_outside(self, client):
        found = client.get("/api/folder").json
        assert [picture["name"] for picture in found["pictures"]] == ["a.png", "b.png", "c.png", "d.png", "e & <i>.png"]
        assert found["name"] == "my paintings" and found["count"] == found["found"] == 5 and found["pages"] == 1
        assert [picture["number"] for picture in client.get("/api/folder?find=E%20%26").json["pictures"]] == [4]

    def test_large_folders_come_in_pages(self, folder, store):
        index = open_index(folder, equal_finder(), store)
        names = tuple(f"{number:05}.jpg" for number in range(10_000))
        client = make_app(folder, store, index=dataclasses.replace(index, names=names)).test_client()
        first, last = (client.get(f"/api/folder?page={page}").json for page in (0, 99_999))
        assert len(first["pictures"]) == 60 and first["pages"] == 167 and last["page"] == 166
        assert last["pictures"][-1] == {"number": 9999, "name": "09999.jpg"}
        assert client.get("/api/folder?page=-3").json == client.get("/api/folder?page=x").json == first
        assert client.get("/api/folder?find=nothing").json["pictures"] == []

    def test_pictures_and_thumbnails_are_jpegs(self, client, folder):
        for address in ("/image/3", "/thumbnail/3"):
            answer = client.get(address)
            assert answer.mimetype == "image/jpeg" and decode_image(answer.data).shape == (96, 160, 3)
        assert client.get("/api/picture/3").json == {"name": "d.png", "width": 160, "height": 96, "view": "/image/3"}

    def test_a_browser_is_told_when_a_picture_has_changed(self, folder, tmp_path):
        write_picture(tmp_path / "own" / "a.png", read_image(folder / "a.png"))
        client = make_app(tmp_path / "own", tmp_path / "store").test_client()
        first = client.get("/thumbnail/0")
        known = {"If-None-Match": first.headers["ETag"]}
        again = client.get("/thumbnail/0", headers=known)
        assert again.status_code == 304 and again.data == b""
        write_picture(tmp_path / "own" / "a.png", read_image(folder / "d.png"))
        changed = client.get("/thumbnail/0", headers=known)
        assert changed.status_code == 200 and decode_image(changed.data).shape == (96, 160, 3)

    @pytest.mark.parametrize("address", [f"/image/{LINK}", f"/thumbnail/{LINK}", f"/api/picture/{LINK}"])
    def test_a_link_out_of_the_folder_is_not_followed(self, client, address):
        answer = client.get(address)
        assert answer.status_code == 403 and "leads out of the folder" in answer.json["error"]

    def test_nor_is_one_that_takes_a_pictures_place_later(self, folder, tmp_path):
        write_picture(tmp_path / "own" / "a.png", read_image(folder / "a.png"))
        client = make_app(tmp_path / "own", tmp_path / "store").test_client()
        (tmp_path / "own" / "a.png").unlink()
        (tmp_path / "own" / "a.png").symlink_to(folder / "b.png")
        assert client.get("/image/0").status_code == 403

    @pytest.mark.parametrize("start", ["/image/", "/thumbnail/", "/api/picture/", "/static/"])
    @pytest.mark.parametrize(
        "rest",
        ["../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fapp.py", "../app.py", "-1", "9" * 30, "9" * 5000,
         "99", "0x1", "a.png", "1/../0", "%00", "//etc/passwd"],
    )  # fmt: skip
    def test_no_path_leads_anywhere(self, client, start, rest):
        answer = client.get(start + rest)
        assert answer.status_code in (404, 308) and b"root:" not in answer.data and b"Traceback" not in answer.data
        if answer.status_code == 404:
            assert set(answer.json) == {"error"}


class TestWhoMayAsk:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:9", "LOCALHOST:1", "127.1.2.3"])
    def test_loopback_names_may(self, client, host):
        assert client.get("/", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "localhost.evil.example:8000", "192.168.0.1", "127.0.0.1.nip.io", "["]
    )
    def test_other_names_may_not(self, client, host):
        for address in ("/", "/image/0", "/api/folder", "/static/page.js", "/nowhere"):
            answer = client.get(address, headers={"Host": host})
            assert answer.status_code in (400, 403) and set(answer.json) == {"error"}

    def test_on_another_address_names_are_free(self, folder, store):
        client = make_app(folder, store, local=False).test_client()
        assert client.get("/", headers={"Host": "museum.example"}).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:9999"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
        ],
    )
    def test_pages_of_other_sites_may_not_compute(self, client, headers):
        answer = client.post("/api/match", data={"a_number": 0, "b_number": 0}, headers=headers)
        assert answer.status_code == 403 and "another site" in answer.json["error"]

    @pytest.mark.parametrize("headers", [{}, {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}])
    def test_our_page_and_programs_may(self, client, headers):
        assert client.post("/api/match", data={"a_number": 0, "b_number": 0}, headers=headers).status_code == 200

    @pytest.mark.parametrize("address", ["/", "/base.css", "/static/page.js", "/image/0", "/image/99", "/nowhere"])
    def test_every_answer_forbids_what_the_page_does_not_need(self, client, address):
        headers = client.get(address).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
        assert (
            headers["X-Content-Type-Options"] == "nosniff" and headers["Cross-Origin-Resource-Policy"] == "same-origin"
        )

    def test_the_page_holds_no_script_or_style_of_its_own_and_fetches_nothing(self, client):
        text = client.get("/").text
        assert not re.search(r"<style|style=|<script(?! type=\"module\" src=\"/static)|\son\w+=|https?:", text)

    def test_errors_are_json_also_where_the_server_fails(self, folder, store, monkeypatch):
        app = make_app(folder, store)
        monkeypatch.setattr("segswap.server.app.match_images", lambda *_: 1 / 0)
        answer = app.test_client().post("/api/match", data={"a_number": 0, "b_number": 1})
        assert answer.status_code == 500 and set(answer.json) == {"error"}
        assert app.test_client().get("/api/match").status_code == 405


class TestLine:
    def test_one_at_a_time_in_order_and_not_too_many(self):
        line, order = Line(waiting=1), []
        holding, release = threading.Event(), threading.Event()

        def hold() -> None:
            with line.turn("first", "comparing") as place:
                place.step("comparing", 3, 10)
                holding.set()
                release.wait(30)
                order.append("first")

        def follow() -> None:
            with line.turn("second", "searching"):
                order.append("second")

        threads = [threading.Thread(target=hold), threading.Thread(target=follow)]
        threads[0].start()
        assert holding.wait(30)
        threads[1].start()
        while line.status("second")["ahead"] is None:
            pass
        found = line.status("second")
        assert found["ahead"] == 1 and (found["what"], found["done"], found["total"]) == ("comparing", 3, 10)
        with pytest.raises(Refused) as refused, line.turn("third", "searching"):
            pass
        assert refused.value.status == 503
        release.set()
        for thread in threads:
            thread.join(30)
        assert order == ["first", "second"] and line.status("first") == line.status("")
        assert line.status("second")["what"] is None

    def test_an_error_ends_a_turn(self):
        line = Line(waiting=0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), line.turn("", "comparing"):
                raise ZeroDivisionError
        assert line.status("")["ahead"] is None
