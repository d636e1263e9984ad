"""Match two pictures: scores, and a picture of what they share."""

from __future__ import annotations

import argparse
import json

import torch

from segswap.device import pick_device
from segswap.drawing import contact_sheet, draw_correspondences, overlay_mask, spread_cells, write_picture
from segswap.errors import InputError
from segswap.images import read_image, resize
from segswap.matching.features import images_to_tensor
from segswap.matching.score import joint_mask, score_pairs
from segswap.models.checkpoint import load_checkpoint

EXAMPLES = "segswap match a.jpg b.jpg --checkpoint results/demo/checkpoints/stage2.pt --size 160 -o match.jpg"


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument(
        "--checkpoint", required=True, help="trained model, for example results/demo/checkpoints/stage2.pt"
    )
    parser.add_argument("--size", type=int, default=480, help="side in pixels that both are squashed to (demo: 160)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", help="picture of the match to write")


def execute(args: argparse.Namespace) -> None:
    """Print the scores as JSON."""
    found = match(args.first, args.second, args.checkpoint, args.size, args.device, args.output)
    print(json.dumps(found, indent=1))
