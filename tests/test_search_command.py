"""``segswap search``: a detail in a folder, every picture of a folder in another, and what they write."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from html_pages import outside, parse, unloaded
from search_folders import SIDE, draw_picture, make_model, write_folder

from segswap import cli
from segswap.images import encode_jpeg
from segswap.models.checkpoint import save_checkpoint
from segswap.report import search_page
from segswap.report.search_page import COLUMNS

NASTY = """Hans & "Anna's" <b>v.2.jpg"""
BOX = "20,30,60,70"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_checkpoint(path, make_model(), {"stage": 1, "image_size": SIDE})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight pictures, one of them under a name that has to be escaped, and one file that does not open."""
    marks = {NASTY: (20, 30), "b.jpg": (60, 50), **{f"{number}.jpg": None for number in range(6)}}
    root = write_folder(tmp_path_factory.mktemp("search") / "pictures", marks)
    (root / "broken.jpg").write_bytes(b"nothing")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """Indexes are kept where a user's lie, in a folder of this module."""
    path = tmp_path_factory.getbasetemp() / "search cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    return path


def test_a_query_of_a_size_that_says_little_is_named(run, folder, tmp_path, capsys):
    (tmp_path / "line.jpg").write_bytes(encode_jpeg(draw_picture(1, size=(900, 5))))
    assert run("--query", tmp_path / "line.jpg", "--folder", folder) == 0
    assert "query line.jpg: 900 x 5 pixels are fewer than the 16 x 16 of one cell" in capsys.readouterr().out


@pytest.fixture
def run(monkeypatch, checkpoint, tmp_path):
    """A function that runs the command and returns its exit status, or what it says when it fails."""

    def run(*arguments: object, output: Path = tmp_path / "out") -> int | str | None:
        words = ["segswap", "search", "--checkpoint", checkpoint, "-o", output, *arguments]
        monkeypatch.setattr("sys.argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_detail_gives_page_table_and_json(run, folder, tmp_path, capsys):
    assert run("--query", folder / NASTY, "--box", BOX, "--folder", folder, "--false-positives", 0.2) == 0
    said = capsys.readouterr().out
    assert "index of" in said and "8 pictures" in said and "broken.jpg: " in said
    assert "1 place above the threshold: " in said and str(tmp_path / "out/index.html") in said
    found = rows(tmp_path / "out/results.csv")
    assert tuple(found[0]) == COLUMNS and len(found) == 7
    assert {row["query"] for row in found} == {NASTY} and NASTY not in {row["image"] for row in found}
    assert [int(row["rank"]) for row in found] == list(range(1, 8))
    scores = [float(row["score"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    assert [row["above_threshold"] for row in found] == ["true"] + 6 * ["false"]
    told = json.loads((tmp_path / "out/results.json").read_text())
    assert list(told["left_out"]) == ["broken.jpg"] and told["folder"] == str(folder)
    (query,) = told["queries"]
    assert query["box"] == [20, 30, 60, 70] and query["negatives"] == 7 and query["left_out"] == [NASTY]
    assert [(hit["image"], hit["score"], hit["p_value"]) for hit in query["hits"]] == [
        (row["image"], float(row["score"]), float(row["p_value"])) for row in found
    ]
    page = parse(tmp_path / "out/index.html")
    assert outside(page) == [] and page.tags.count("li") == 7 and page.tags.count("details") == 7
    assert "above the threshold" in page.whole_text and NASTY in page.whole_text
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["index.html", "results.csv", "results.json"]


def test_nothing_above_the_threshold_is_no_failure(run, folder, capsys, tmp_path):
    assert run("--query", folder / "0.jpg", "--folder", folder, "--shortlist", 2, "--top", 1) == 0
    assert "no threshold: a false-positive rate of 0.01 needs at least 99 pictures" in capsys.readouterr().out
    page = parse(tmp_path / "out/index.html")
    assert "--negatives" in page.whole_text and page.tags.count("li") == 1
    assert len(rows(tmp_path / "out/results.csv")) == 2
    assert rows(tmp_path / "out/results.csv")[0]["above_threshold"] == ""
    none = ("--false-positives", 0.2, "--negatives", folder, "--negative-count", 4, "--shortlist", 1, "--seed", 2)
    other = tmp_path / "noise.jpg"
    other.write_bytes(encode_jpeg(draw_picture(50)))
    for query in (other, folder / "0.jpg"):
        assert run("--query", query, "--folder", folder, *none) == 0
    assert "above the threshold" in capsys.readouterr().out


def test_with_a_store_nothing_is_kept_in_the_cache(run, folder, tmp_path, cache):
    before = list(cache.rglob("*"))
    store = tmp_path / "store"
    flags = ("--store", store, "--negatives", folder, "--negative-count", 4, "--shortlist", 1, "--false-positives", 0.2)
    assert run("--query", folder / "0.jpg", "--folder", folder, *flags) == 0
    assert (store / "index.json").is_file() and len(list((store / "negatives").glob("pictures-*/index.json"))) == 1
    assert list(cache.rglob("*")) == before


def test_every_picture_of_a_folder_is_a_query(run, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(search_page, "SHOWN_QUERIES", 2)
    queries = write_folder(tmp_path / "queries", {"q1.jpg": None, "q2.jpg": (60, 50), "q3.jpg": None})
    (queries / "q0.jpg").write_bytes(b"")
    arguments = ("--queries", queries, "--database", folder, "--shortlist", 6, "--false-positives", 0.2)
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert "query left out: " in said and "q0.jpg" in said and "of 3 queries have a place above" in said
    found = rows(tmp_path / "out/results.csv")
    assert [row["query"] for row in found] == 6 * ["q1.jpg"] + 6 * ["q2.jpg"] + 6 * ["q3.jpg"]
    told = json.loads((tmp_path / "out/results.json").read_text())
    assert [len(query["hits"]) for query in told["queries"]] == [5, 5, 5]
    page = parse(tmp_path / "out/index.html")
    assert page.tags.count("section") == 2 and page.tags.count("li") == 10
    assert "The first 2 of 3 queries are shown" in page.whole_text
    assert page.tags.count("image") - 10 <= 8 + 2, "each picture is embedded once, besides ten tints"


def test_folders_of_folders_are_searched_where_that_is_asked_for(run, tmp_path):
    database = write_folder(tmp_path / "database" / "street", {"1.jpg": (20, 30), "2.jpg": None}).parent
    queries = write_folder(tmp_path / "queries" / "night", {"1.jpg": (40, 40)}).parent
    asked = ("--queries", queries, "--database", database)
    assert "database: holds no picture" in run(*asked) or "queries: holds no picture" in run(*asked)
    assert run(*asked, "--subfolders") == 0
    found = rows(tmp_path / "out/results.csv")
    assert {row["query"] for row in found} == {"night/1.jpg"}
    assert {row["image"] for row in found} == {"street/1.jpg", "street/2.jpg"}


def test_queries_of_which_none_opens_are_an_error(run, folder, tmp_path):
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "q.jpg").write_bytes(b"")
    said = run("--queries", tmp_path / "queries", "--database", folder)
    assert "none of its pictures opens" in str(said)


def test_a_found_box_can_be_searched_for_in_turn(run, folder, tmp_path):
    assert run("--query", folder / NASTY, "--box", BOX, "--folder", folder, "--shortlist", 0) == 0
    best = rows(tmp_path / "out/results.csv")[0]
    assert run("--query", folder / best["image"], "--box", best["box"], "--folder", folder) == 0


def test_turns_and_how_much_is_matched_are_chosen_and_said(run, folder, tmp_path):
    asked = ("--query", folder / NASTY, "--box", BOX, "--folder", folder)
    assert run(*asked, "--matched", 2, "--side", 96, "--rotations", "--flips") == 0
    told = json.loads((tmp_path / "out/results.json").read_text())
    assert told["about"]["matched"] == "the 2 best places, the query as large as 96 x 96 pixels"
    assert told["about"]["tried"].startswith("as given, rotated by 90 degrees")
    assert sum(row["agreement"] != "" for row in rows(tmp_path / "out/results.csv")) == 2
    assert run(*asked, "--matched", 0) == 0
    assert {row["agreement"] for row in rows(tmp_path / "out/results.csv")} == {""}
    assert "found by likeness alone" in parse(tmp_path / "out/index.html").whole_text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box", "1,2,3"], "box '1,2,3': expected four numbers"),
        (["--box", "5,5,5,9"], "box 5,5,5,9 has no area"),
        (["--box", "500,5,600,90"], "lies outside of 0.jpg, which has 120 x 100 pixels"),
        (["--side", 100], "--side 100: expected a positive multiple of 16"),
        (["--side", 0], "--side 0: expected a positive multiple of 16"),
        (["--top", 0], "--top 0: expected 1 or more"),
        (["--box", "5,5,15,9"], "box 5,5,15,9 is 10 pixels long"),
        (["--shortlist", -1], "--shortlist -1: expected 0 (all) or more"),
        (["--matched", -1], "--matched -1: expected 0 (none) or more"),
        (["--false-positives", 1], "--false-positives 1: expected a share above 0 and below 1"),
        (["--folder", "/nowhere"], "--folder /nowhere: no such folder"),
        (["--negatives", "/nowhere"], "--negatives /nowhere: no such folder"),
        (["--query", "/nowhere.jpg"], "/nowhere.jpg: cannot be opened"),
        (["--checkpoint", "/nowhere.pt"], "/nowhere.pt: no such file"),
    ],
)
def test_what_cannot_be_meant_is_named_and_nothing_is_written(run, folder, tmp_path, cache, arguments, message):
    before = list(cache.rglob("*"))
    assert message in str(run("--query", folder / "0.jpg", "--folder", folder, *arguments))
    assert not (tmp_path / "out").exists() and list(cache.rglob("*")) == before


def test_a_box_belongs_to_one_query_and_the_output_must_be_a_folder(run, folder, tmp_path):
    said = run("--queries", folder, "--database", folder, "--box", BOX)
    assert "--box: belongs to one --query" in str(said)
    (tmp_path / "file").touch()
    said = run("--query", folder / "0.jpg", "--folder", folder, output=tmp_path / "file")
    assert "file: cannot be made a folder" in str(said)
    assert run("--folder", folder) == 2 and run("--query", "a", "--queries", "b", "--folder", folder) == 2


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_the_page_fits_its_window_and_all_its_pictures_load(run, show, folder, tmp_path, scheme, width):
    assert run("--query", folder / NASTY, "--box", BOX, "--folder", folder, "--false-positives", 0.2) == 0
    page = show(tmp_path / "out/index.html", scheme, width)
    assert unloaded(page) == []
    page.locator("summary").first.click()
    assert page.locator("details svg").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    first = page.locator(".hits li").first
    assert first.evaluate("e => getComputedStyle(e).borderColor") != page.locator(".hits li").last.evaluate(
        "e => getComputedStyle(e).borderColor"
    )
