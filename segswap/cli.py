"""The command ``segswap``: match two pictures, and say what a file of this project is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segswap import __version__
from segswap.device import pick_device
from segswap.drawing import contact_sheet, draw_correspondences, overlay_mask, spread_cells, write_picture
from segswap.errors import InputError
from segswap.files import read_json
from segswap.images import read_image, resize
from segswap.matching.features import images_to_tensor
from segswap.matching.score import joint_mask, score_pairs
from segswap.models.checkpoint import load_checkpoint
from segswap.program import run


@torch.inference_mode()
def match(
    first: str, second: str, checkpoint: str, size: int, device: str, output: str | None, lines: int = 24
) -> dict[str, float]:
    """Match two pictures; draw what they share if asked for.

    Args:
        first, second: picture files, squashed to ``size`` x ``size`` pixels.
        checkpoint: of a trained model.
        size: side in pixels, a multiple of 16; what the model was trained at works best.
        device: torch device, or ``auto``.
        output: picture to draw: masks over both pictures and ``lines`` correspondences; None: nothing.

    Returns:
        the directed scores, and the share of each picture's cells that the other one repeats (mask above 0.5).
    """
    if size <= 0 or size % 16:
        raise InputError(f"--size {size}: expected a positive multiple of 16")
    where = pick_device(device)
    model, _ = load_checkpoint(checkpoint, where)
    pictures = [resize(read_image(path), (size, size)) for path in (first, second)]
    x, y = (model.features(images_to_tensor([picture], where)) for picture in pictures)
    maps_x, maps_y = model.matcher(x, y)
    ones = torch.ones_like(maps_x[:, 2:])
    if output:
        masks = [joint_mask(*sides, ones)[0, 0].cpu().numpy() for sides in ((maps_x, maps_y), (maps_y, maps_x))]
        cells = spread_cells(masks[0], lines)
        joined = draw_correspondences(*pictures, cells, maps_x[0, :2].cpu().numpy())
        overlays = [overlay_mask(picture, mask) for picture, mask in zip(pictures, masks, strict=True)]
        write_picture(output, contact_sheet([overlays, [joined]]))
    return {
        "score": float(score_pairs(maps_x, maps_y, x, y, ones)[0]),
        "score_back": float(score_pairs(maps_y, maps_x, y, x, ones)[0]),
        "share_first": float((maps_x[0, 2] > 0.5).float().mean()),
        "share_second": float((maps_y[0, 2] > 0.5).float().mean()),
    }


def describe(path: str) -> dict[str, Any]:
    """Return what a file of this project says about itself: a checkpoint, a pair set, or a feature store.

    Raises:
        InputError: when it is none of these.
    """
    if path.endswith((".pt", ".pth", ".tar")):
        model, about = load_checkpoint(path)
        return {
            "file": "checkpoint",
            "backbone": vars(model.backbone.settings),
            "transformer": vars(model.matcher.settings),
            "parameters": sum(p.numel() for p in model.matcher.parameters()),
            **about,
        }
    if path.endswith(".npy"):
        header = read_json(Path(path).with_suffix(".json"))
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        return {"file": "feature store", "shape": list(shape), **{k: v for k, v in header.items() if k != "names"}}
    if path.endswith("manifest.json"):
        content = read_json(path)
        return {"file": "pair set", **{k: v for k, v in content.items() if k != "shards"}}
    raise InputError(f"{path}: expected a checkpoint (.pt), a feature store (.npy) or a pair set's manifest.json")


def main() -> None:
    """Run the command; see ``segswap --help``."""
    parser = argparse.ArgumentParser(prog="segswap", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("match", help="match two pictures")
    one.add_argument("first")
    one.add_argument("second")
    one.add_argument(
        "--checkpoint", required=True, help="trained model, for example results/demo/checkpoints/stage2.pt"
    )
    one.add_argument("--size", type=int, default=480, help="side in pixels that both are squashed to (demo: 160)")
    one.add_argument("--device", default="auto")
    one.add_argument("-o", "--output", help="picture of the match to write")
    two = commands.add_parser("info", help="say what a checkpoint, pair set or feature store is")
    two.add_argument("file")
    args = parser.parse_args()

    def execute() -> None:
        if args.command == "match":
            found: dict[str, Any] = match(args.first, args.second, args.checkpoint, args.size, args.device, args.output)
        else:
            found = describe(args.file)
        print(json.dumps(found, indent=1))

    run(execute)


if __name__ == "__main__":
    main()
