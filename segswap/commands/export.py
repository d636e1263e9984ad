"""Write a checkpoint in another form.

``published``: one file with ``backbone``, ``encoder`` and ``optimiser``, as the paper's authors publish theirs.
``onnx``: a folder with ``backbone.onnx`` and ``matcher.onnx``, for images of any size.
"""

from __future__ import annotations

import argparse

from segswap.models.checkpoint import load_checkpoint, save_published
from segswap.models.onnx import export_onnx

EXAMPLES = "segswap export results/demo/checkpoints/stage2.pt --form onnx -o onnx"

FORMS = ("published", "onnx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("checkpoint")
    parser.add_argument("--form", required=True, choices=FORMS)
    parser.add_argument("-o", "--output", required=True, help="file (published) or folder (onnx) to write")


def execute(args: argparse.Namespace) -> None:
    """Write the form; print what was written."""
    model, _ = load_checkpoint(args.checkpoint)
    if args.form == "published":
        save_published(args.output, model)
        written = [args.output]
    else:
        written = export_onnx(model, args.output)
    print("\n".join(f"written: {path}" for path in written))
