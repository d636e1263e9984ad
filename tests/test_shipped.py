"""The model that comes with the package: what it is, that commands use it, and what it finds in real pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segswap import cli
from segswap.images import read_image
from segswap.matching.match import match_images
from segswap.models.backbones import backbone_settings
from segswap.models.checkpoint import load_backbone
from segswap.models.hub import SHIPPED
from segswap.models.segswap import SegSwap

EXAMPLES = Path(__file__).parents[1] / "docs/examples"


@pytest.fixture(scope="module")
def model() -> SegSwap:
    return SegSwap.from_pretrained()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    """Run the command and return its exit status."""
    monkeypatch.setattr("sys.argv", ["segswap", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_it_is_small_and_says_what_it_is(monkeypatch, capsys, model):
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 20e6
    assert run(monkeypatch, "info") in (0, None)
    said = json.loads(capsys.readouterr().out)
    assert said["backbone"] == {"architecture": "efficientnet_lite0", "taps": [7, 10, 14]}
    assert said["image_size"] == 480 and said["steps"] == 1804 and said["mask_threshold"] == 0.3
    card = (SHIPPED / "README.md").read_text()
    assert "| side of the training pairs | 480 pixels |" in card
    for name, value in model.about.items():
        assert name == "image_size" or f"| {name} | {value} |" in card, "the card says the same"
    assert "More Information Needed" not in card and "Apache" in card
    assert "TERMS AND CONDITIONS" in (SHIPPED / "LICENSE-APACHE-2.0.txt").read_text()


def test_its_backbone_is_the_package_s(model):
    package = load_backbone("package", backbone_settings({"architecture": "efficientnet_lite0"}))
    own = model.backbone.state_dict()
    assert own.keys() == package.state_dict().keys()
    assert all(torch.equal(own[name], value) for name, value in package.state_dict().items())


def share_inside(mask: np.ndarray, box: tuple[float, float, float, float]) -> float:
    """Return which share of a mask lies in a box of normalised corners (x1, y1, x2, y2)."""
    h, w = mask.shape
    y, x = (np.mgrid[:h, :w] + 0.5) / np.array([h, w])[:, None, None]
    inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
    return float(mask[inside].sum() / mask.sum())


@pytest.mark.parametrize(
    ("first", "second", "boxes"),
    [
        ("saint-martin", "landscape", [(0.05, 0.05, 0.95, 0.98), (0.65, 0.25, 1, 0.97)]),
        ("suitcases", "beach", [(0.2, 0.3, 0.53, 1), (0.13, 0.55, 0.34, 1)]),
    ],
)
def test_it_finds_what_the_examples_share(model, first, second, boxes):
    pictures = [read_image(EXAMPLES / f"{name}.jpg") for name in (first, second)]
    found = match_images(model, *pictures, (320, 480))
    for mask, box in zip(found.masks, boxes, strict=True):
        assert (mask > 0.5).sum() > 10
        assert share_inside(np.where(mask > 0.5, mask, 0), box) > 0.9
    other = read_image(EXAMPLES / ("beach.jpg" if first == "saint-martin" else "landscape.jpg"))
    assert match_images(model, pictures[0], other, (320, 480)).score < found.score / 4


def test_commands_use_it(monkeypatch, capsys, tmp_path):
    arguments = ("match", EXAMPLES / "suitcases.jpg", EXAMPLES / "beach.jpg", "--sides", 320, 320, "-o", tmp_path / "m")
    assert run(monkeypatch, *arguments) in (0, None)
    assert json.loads((tmp_path / "m/match.json").read_text())["model"]["checkpoint"] == str(SHIPPED)

    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in EXAMPLES.glob("*.jpg"):
        (folder / path.name).write_bytes(path.read_bytes())
    detail = cv2.imread(str(folder / "saint-martin.jpg"))[150:330, 180:330]
    cv2.imwrite(str(tmp_path / "detail.png"), detail)
    arguments = ("search", "--query", tmp_path / "detail.png", "--folder", folder, "--store", tmp_path / "store")
    assert run(monkeypatch, *arguments, "-o", tmp_path / "s") in (0, None)
    rows = json.loads((tmp_path / "s/results.json").read_text())
    assert re.search(r"saint-martin\.jpg", json.dumps(rows))


def test_every_example_has_its_origin():
    rows = re.findall(r"^\| `(\S+\.jpg)` .*", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in EXAMPLES.glob("*.jpg"))
