"""The model card: what a published folder says to people, filled with what the model says of itself."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from segswap.models.forms import PUBLISHED_ORIGIN, Contents


def model_card(contents: Contents, data: ModelCardData, **more: Any) -> ModelCard:
    """Return the card of a model; what the model does not know stays to be filled in.

    Args:
        contents: the model.
        data: head of the card: licence, tags and the like.
        more: further values of the template ``model_card.md`` (``training_data``, ``results``, ...), and entries of the
            head (``datasets``, ``license``, ...), which take the place of those given.
    """
    head = data.to_dict()
    if contents.about.get("origin") == PUBLISHED_ORIGIN:
        # Converted, not trained here: their weights, not ours to license.
        head.pop("license", None)
    head |= {name: more.pop(name) for name in ("datasets", "license", "language") if name in more}
    template = files("segswap.models").joinpath("model_card.md").read_text(encoding="utf-8")
    counts = {part: _count(contents, part) for part in ("backbone", "matcher")}
    values = {**contents.description(), "license": head.get("license"), "parameters": counts, **more}
    return ModelCard.from_template(ModelCardData(**head), template_str=template, **values)


def _count(contents: Contents, part: str) -> int:
    """Return the number of weights of a part, running statistics left out."""
    return sum(
        value.numel()
        for name, value in getattr(contents, part).items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
