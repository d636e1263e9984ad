"""The command ``segswap match``: one pair, lists of pairs, and what it refuses."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segswap import cli
from segswap.commands import match as command
from segswap.files import write_bytes
from segswap.geometry import cell_centres
from segswap.images import encode_jpeg, read_image
from segswap.matching.match import Match, Turn
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.checkpoint import save_checkpoint
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.program import STOPPED

NUMBERS = {"score", "score_first", "score_second", "share_first", "share_second", "rotation", "mirrored"}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    backbone = ResNet(ResNetSettings("resnet10", 8, 16))
    matcher = Transformer(TransformerSettings("tiny", 16, 0.0, "matching"))
    save_checkpoint(tmp_path / "model.pt", SegSwap(backbone, matcher), {"image_size": 96})
    return tmp_path / "model.pt"


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(1)
    paths = [tmp_path / name for name in ("a & b.jpg", 'the "second".v2.jpg', "c.jpg")]
    for path, shape in zip(paths, ((70, 90), (120, 60), (100, 100)), strict=True):
        write_bytes(path, encode_jpeg(rng.integers(0, 255, (*shape, 3), np.uint8)))
    return paths


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path):
    """A function that runs ``segswap match`` with the checkpoint and returns its exit status."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments: object) -> int | str | None:
        monkeypatch.setattr("sys.argv", ["segswap", "match", *map(str, arguments), "--checkpoint", str(checkpoint)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code

    return called


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two pictures always share most of each; returns the list to which each match adds its number of versions."""
    versions = []

    def match(matcher, x, features) -> Match:
        versions.append(len(features))
        grids = [tuple(each.shape[2:]) for each in (x, next(iter(features.values())))]
        masks = tuple(np.full(grid, 0.9, np.float32) for grid in grids)
        positions = tuple(cell_centres(grid).astype(np.float32) for grid in grids)
        return Match(5.0, (5.0, 5.0), Turn(), masks, positions)

    monkeypatch.setattr(command, "match_features", match)
    return versions


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_are_printed_and_words_go_to_standard_error(run, capsys, pictures, tmp_path):
    before = set(tmp_path.iterdir())
    assert run(*pictures[:2]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert set(found) == NUMBERS
    assert found["score"] == pytest.approx((found["score_first"] + found["score_second"]) / 2)
    assert found["score"] > 0 and 0 <= found["share_first"] <= 1
    assert "hared" in said.err
    assert set(tmp_path.iterdir()) == before, "without -o nothing is written"


def test_pictures_of_a_size_that_says_little_are_named(run, capsys, tmp_path):
    for name, size in (("dot.png", (1, 1)), ("line.png", (4000, 3))):
        Image.new("RGB", size, "red").save(tmp_path / name)
    assert run("dot.png", "line.png") == 0
    said = capsys.readouterr().err
    assert "dot.png: 1 x 1 pixels are fewer than" in said and "line.png: 4000 x 3 pixels are fewer than" in said


def test_the_sizes_are_those_of_the_checkpoint_or_asked_for(run, capsys, pictures):
    assert run(*pictures[:2], "-o", "out") == 0
    content = json.loads(Path("out/match.json").read_text())
    assert content["sides"] == [96, 224] and content["first"]["matched_at"] == [96, 80]
    assert content["second"]["matched_at"] == [64, 128]
    assert json.loads(capsys.readouterr().out)["written"] == ["out/match.jpg", "out/match.json"]
    assert run(*pictures[:2], "--sides", 160, 160, "-o", "out") == 0
    assert json.loads(Path("out/match.json").read_text())["first"]["matched_at"] == [160, 128]


def test_all_files_are_written(run, capsys, pictures, shared):
    assert run(pictures[0], pictures[0], "-o", "deep/out", "--gif", "--page", "--rotations", "--flips") == 0
    out = Path("deep/out")
    assert {path.name for path in out.iterdir()} == {"match.json", "match.jpg", "match.gif", "index.html"}
    assert read_image(out / "match.jpg").shape[0] > 200 and read_image(out / "match.gif").shape[1] >= 300
    assert shared == [8]
    assert "Shared: 100.0%" in capsys.readouterr().err


def test_where_pictures_cannot_be_aligned_the_terminal_says_so(run, capsys, pictures, monkeypatch):
    def nothing(matcher, x, features) -> Match:
        grids = [tuple(each.shape[2:]) for each in (x, next(iter(features.values())))]
        masks = tuple(np.zeros(grid, np.float32) for grid in grids)
        return Match(0.0, (0.0, 0.0), Turn(), masks, tuple(np.zeros((2, *grid), np.float32) for grid in grids))

    monkeypatch.setattr(command, "match_features", nothing)
    assert run(*pictures[:2], "-o", "out", "--gif", "--page") == 0
    said = capsys.readouterr().err
    assert "Nothing shared was found" in said and "match.gif: not written, no cells correspond, too few" in said
    assert {path.name for path in Path("out").iterdir()} == {"match.json", "match.jpg", "index.html"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a & b.jpg"], "expected two pictures, or --pairs"),
        ([], "expected two pictures, or --pairs"),
        (["a & b.jpg", "nowhere.jpg"], "nowhere.jpg: cannot be opened"),
        (["a & b.jpg", "c.jpg", "--sides", 100, 160], "--sides 100 160: expected two positive multiples of 16"),
        (["a & b.jpg", "c.jpg", "--sides", 160, 96], "--sides 160 96: expected two positive multiples of 16, the sm"),
        (["a & b.jpg", "c.jpg", "--sides", 0, 96], "--sides 0 96: expected"),
        (["a & b.jpg", "c.jpg", "--lines", -1], "--lines -1: expected 0 or more"),
        (["a & b.jpg", "c.jpg", "--gif"], "--gif: needs a folder to write to; add -o"),
        (["a & b.jpg", "c.jpg", "--page"], "--page: needs a folder to write to; add -o"),
        (["a & b.jpg", "c.jpg", "-o", "match.jpg"], "-o match.jpg: expected a folder"),
        (["a & b.jpg", "c.jpg", "-o", "model.pt"], "-o model.pt: expected a folder"),
        (["a & b.jpg", "c.jpg", "-o", "model.pt/out"], "model.pt/out: cannot be made a folder"),
        (["--pairs", "pairs.csv"], "--pairs: needs a folder to write to; add -o"),
        (["--pairs", "none.csv", "-o", "out"], "none.csv: cannot be opened"),
        (["a & b.jpg", "c.jpg", "--pairs", "pairs.csv", "-o", "out"], "--pairs pairs.csv: stands in place of two"),
    ],
)
def test_what_cannot_be_meant_is_refused(run, pictures, arguments, said):
    assert said in str(run(*arguments))


def test_a_missing_checkpoint_is_named(run, pictures, monkeypatch):
    monkeypatch.setattr("sys.argv", ["segswap", "match", *map(str, pictures[:2]), "--checkpoint", "none.pt"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert "none.pt" in str(left.value.code)


# Lists of pairs


def test_a_list_gives_a_folder_each_and_a_table(run, capsys, pictures, tmp_path):
    Path("pairs.csv").write_text('a,b,name\na & b.jpg,c.jpg,one\nc.jpg,"the ""second"".v2.jpg",\n')
    assert run("--pairs", "pairs.csv", "-o", "out") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"matched": 2, "already_there": 0, "unreadable": 0, "written": ["out/matches.csv"]}
    rows = table(Path("out/matches.csv"))
    assert [row["name"] for row in rows] == ["one", "0002"]
    for row in rows:
        content = json.loads((Path("out") / row["name"] / "match.json").read_text())
        assert float(row["score"]) == content["score"] and row["problem"] == ""
        assert (Path("out") / row["name"] / "match.jpg").is_file()
    assert run(pictures[0], pictures[2]) == 0
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(float(rows[0]["score"]), rel=1e-4)


def test_a_row_that_does_not_open_is_reported_and_the_others_go_on(run, capsys, pictures):
    pictures[2].write_bytes(b"text")
    Path("pairs.csv").write_text("a,b\na & b.jpg,c.jpg\na & b.jpg,a & b.jpg\n")
    assert run("--pairs", "pairs.csv", "-o", "out") == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["matched"], found["unreadable"]) == (1, 1) and "line 2: c.jpg" in said.err
    broken, good = table(Path("out/matches.csv"))
    assert "c.jpg: 4 bytes that do not decode" in broken["problem"] and broken["score"] == ""
    assert float(good["score"]) > 0 and good["problem"] == ""


def test_a_list_goes_on_where_it_was_killed_and_does_again_what_has_changed(run, capsys, pictures, shared, monkeypatch):
    Path("pairs.csv").write_text("a,b\na & b.jpg,c.jpg\nc.jpg,a & b.jpg\nc.jpg,c.jpg\n")
    match = command.match_features

    def killed(*arguments):
        if len(shared) == 2:
            raise KeyboardInterrupt
        return match(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(command, "match_features", killed)
        patched.setattr(
            "sys.argv", ["segswap", "match", "--pairs", "pairs.csv", "-o", "out", "--checkpoint", "model.pt"]
        )
        with pytest.raises(SystemExit) as left:
            cli.main()
    assert left.value.code == STOPPED
    assert not Path("out/matches.csv").exists() and len(shared) == 2

    def again(*arguments) -> dict:
        shared.clear()
        capsys.readouterr()
        assert run("--pairs", "pairs.csv", "-o", "out", *arguments) == 0
        return json.loads(capsys.readouterr().out)

    first = again()
    assert (first["matched"], first["already_there"]) == (1, 2) and len(shared) == 1
    assert [row["score"] for row in table(Path("out/matches.csv"))] == ["5.0"] * 3
    assert again()["already_there"] == 3 and shared == []
    assert again("--flips")["matched"] == 3 and shared == [2, 2, 2]
    again()
    write_bytes(pictures[0], encode_jpeg(np.zeros((50, 60, 3), np.uint8)))
    assert (again()["already_there"], len(shared)) == (1, 2)
    torch.manual_seed(1)
    matcher = Transformer(TransformerSettings("tiny", 16, 0.0, "matching"))
    save_checkpoint("model.pt", SegSwap(ResNet(ResNetSettings("resnet10", 8, 16)), matcher), {"image_size": 96})
    assert again()["matched"] == 3


def test_features_of_a_picture_in_row_after_row_are_computed_once(run, pictures, monkeypatch):
    Path("pairs.csv").write_text("a,b\nc.jpg,a & b.jpg\nc.jpg,c.jpg\na & b.jpg,c.jpg\n")
    computed = []
    features = SegSwap.features
    monkeypatch.setattr(SegSwap, "features", lambda self, images: computed.append(1) or features(self, images))
    assert run("--pairs", "pairs.csv", "-o", "out") == 0
    assert len(computed) == 2


def test_the_list_and_the_table_do_not_meet(run, pictures):
    Path("matches.csv").write_text("a,b\nc.jpg,c.jpg\n")
    assert "would be written over by the table" in str(run("--pairs", "matches.csv", "-o", "."))
    Path("pairs.csv").write_text("a,b,name\nc.jpg,c.jpg,Matches.csv\n")
    assert "line 2: name 'Matches.csv': is that of the table" in str(run("--pairs", "pairs.csv", "-o", "out"))


def test_the_examples_are_command_lines_that_can_be_meant():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    for line in command.EXAMPLES.splitlines():
        program, name, *arguments = line.split()
        assert (program, name) == ("segswap", "match")
        command._check(parser.parse_args(arguments))
