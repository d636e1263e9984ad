"""Write a model in another form; all but ONNX can be read again wherever a checkpoint is taken.

``safetensors``: a folder as the Hugging Face hub has them (weights, their description, a model card), or one file where
the output ends in .safetensors; both say themselves what they hold. ``published``: one file with ``backbone``,
``encoder`` and ``optimiser``, as the paper's authors publish theirs. ``onnx``: a folder with ``backbone.onnx`` and
``matcher.onnx``, for images of any size. ``checkpoint``: one .pt file, as the workflow writes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from segswap.errors import InputError
from segswap.models.checkpoint import load_checkpoint, save_checkpoint, save_published
from segswap.models.forms import CARD_NAME, CONFIG_NAME, SAFETENSORS, WEIGHTS_NAME, write_safetensors_file
from segswap.models.onnx import export_onnx
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer

EXAMPLES = """\
segswap export results/demo/checkpoints/stage2.pt --form safetensors -o my-model
segswap export results/demo/checkpoints/stage2.pt --form safetensors --half -o model.safetensors
segswap export hard_mining_neg5.pth --form checkpoint -o published.pt
segswap export results/paper/checkpoints/stage2.pt --form published -o stage2.pth
segswap export owner/model --form onnx -o onnx
"""

FORMS = ("safetensors", "published", "onnx", "checkpoint")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "checkpoint", help="file, folder, or owner/model of the Hugging Face hub; the published checkpoint, too"
    )
    parser.add_argument("--form", required=True, choices=FORMS)
    parser.add_argument(
        "--mask-threshold",
        type=float,
        default=0.5,
        metavar="VALUE",
        help="change the masks so that this value becomes 0.5, as a model that marks too little, or too much, needs; "
        "choose the value on training pairs (default: %(default)s)",
    )
    parser.add_argument(
        "--mask-slope",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="make masks rise so much more steeply around the threshold (above 1), or less (default: %(default)s)",
    )
    parser.add_argument(
        "--half", action="store_true", help="keep the matcher's weights in 16 bits; for the form safetensors"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        help="file (published, checkpoint; .safetensors) or folder (safetensors, onnx) to write",
    )


def _writes_folder(form: str, output: Path) -> bool:
    """Return whether a form is a folder.

    Raises:
        InputError: when the output is there as something else, or would not be known by its name.
    """
    folder = form == "onnx" or (form == "safetensors" and output.suffix != SAFETENSORS)
    if folder and output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is a file; the form {form} is a folder here, choose another name")
    if not folder and output.is_dir():
        raise InputError(f"--output {output}: is a folder; the form {form} is one file here, choose another name")
    if form in ("published", "checkpoint") and output.suffix == SAFETENSORS:
        raise InputError(f"--output {output}: the form {form} is no safetensors file; let the name end in .pt")
    return folder


def _write(model: SegSwap, form: str, output: Path) -> list[Path]:
    """Write a form; return what was written."""
    folder = _writes_folder(form, output)
    if form == "onnx":
        return export_onnx(model, output)
    if folder:
        names = [WEIGHTS_NAME, CONFIG_NAME, *([] if (output / CARD_NAME).exists() else [CARD_NAME])]
        model.save_pretrained(output)
        return [output / name for name in names]
    if form == "safetensors":
        write_safetensors_file(output, model.contents())
    elif form == "published":
        save_published(output, model)
    else:
        save_checkpoint(output, model, model.about)
    return [output]


def _rescale_masks(model: SegSwap, threshold: float, slope: float) -> None:
    """Change a model's masks, and let the model say so."""
    if not 0 < threshold < 1:
        raise InputError(f"--mask-threshold {threshold:g}: expected a value of a mask, above 0 and below 1")
    if not slope > 0:
        raise InputError(f"--mask-slope {slope:g}: expected a factor above 0")
    if not isinstance(model.matcher, Transformer):
        raise InputError("--mask-threshold, --mask-slope: change masks of a transformer; this matcher is another")
    model.matcher.rescale_masks(threshold, slope)
    model.about = {**model.about, "mask_threshold": threshold, "mask_slope": slope}


def execute(args: argparse.Namespace) -> None:
    """Write the form; print what was written."""
    if args.half and args.form != "safetensors":
        raise InputError(f"--half: the form {args.form} has weights of 32 bits; use --form safetensors")
    model, _ = load_checkpoint(args.checkpoint)
    if (args.mask_threshold, args.mask_slope) != (0.5, 1.0):
        _rescale_masks(model, args.mask_threshold, args.mask_slope)
    if args.half:
        model.matcher.half()
    print("\n".join(f"written: {path}" for path in _write(model, args.form, args.output)))
