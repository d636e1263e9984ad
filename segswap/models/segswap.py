"""The whole model: a frozen backbone and a matcher on its features."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelHubMixin
from torch import nn

from segswap.files import content_key
from segswap.models.architectures import architecture_of
from segswap.models.backbones.backbone import Backbone
from segswap.models.card import model_card
from segswap.models.forms import CARD_NAME, Contents, read_contents, write_folder
from segswap.models.hub import SHIPPED, locate
from segswap.weights import tensors_sha256


class SegSwap(
    nn.Module,
    ModelHubMixin,
    library_name="segswap",
    license="mit",
    pipeline_tag="image-segmentation",
    tags=["co-segmentation", "correspondence", "image-matching", "image-retrieval"],
    paper_url="https://arxiv.org/abs/2110.15904",
):
    """Two images in, two maps out.

    ``save_pretrained(folder)`` and ``push_to_hub("owner/model")`` (``huggingface_hub.ModelHubMixin``) write a folder
    that ``from_pretrained`` reads: weights, description and a model card. A card that is there is kept, and said to be.

    Attributes:
        backbone: images (B, 3, H, W) in [0, 1] to L2-normalised features (B, C, H/16, W/16); frozen.
        matcher: two feature maps to two outputs (B, 3, h, w): x, y, mask.
        about: plain values on its origin (stage, steps, image_size, ...); empty where nothing is known.
    """

    def __init__(self, backbone: Backbone, matcher: nn.Module, about: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.backbone = backbone.freeze()
        self.matcher = matcher
        self.about = about or {}

    @property
    def key(self) -> str:
        """A 16-digit key of the weights, wherever they were read from, and of what else decides the features."""
        weights = tensors_sha256(self.state_dict())
        return (content_key([weights, self.backbone.distinction]) if self.backbone.distinction else weights)[:16]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of images, (B, C, h, w), channels last in memory, without a gradient."""
        with torch.inference_mode():
            features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        # What inference mode made cannot take part in training; a copy can.
        return features.clone(memory_format=torch.channels_last)

    def forward(self, images_a: torch.Tensor, images_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Match RGB images (B, 3, H, W) in [0, 1]; sides are multiples of 16, sizes may differ."""
        return self.matcher(self.features(images_a), self.features(images_b))

    def contents(self, about: dict[str, Any] | None = None) -> Contents:
        """Return the model as plain values and tensors, which share the model's memory; ``about`` None: its own."""
        return Contents(
            architecture=architecture_of(self.matcher),
            backbone_settings=self.backbone.settings.described(),
            matcher_settings=dataclasses.asdict(self.matcher.settings),
            backbone=self.backbone.state_dict(),
            matcher=self.matcher.state_dict(),
            about=self.about if about is None else about,
        )

    # The mixin's own asks the hub about everything that is no folder, a mistyped file name, too.
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike = SHIPPED,
        *,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> SegSwap:
        """Read a model, in evaluation mode on the device; what is on this machine never touches the network.

        Args:
            pretrained_model_name_or_path: checkpoint of ours, the published one, a ``.safetensors`` file, a folder that
                ``save_pretrained`` has written, or ``owner/model`` on the Hugging Face hub; default: the model that
                comes with the package.
            device: torch device.
            revision, cache_dir, token, local_files_only, force_download: of the hub; see ``segswap.models.hub``.

        Raises:
            InputError: when it is missing or damaged, or is another kind of model.
        """
        path = locate(
            pretrained_model_name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        contents = read_contents(path)
        return cls(*contents.build(path), contents.about).to(device).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        write_folder(save_directory, self.contents())
        if (card := save_directory / CARD_NAME).exists():
            print(f"{card}: is there and stays as it is; look whether it says the right about this model", flush=True)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the model card; keyword arguments go to ``segswap.models.card.model_card``."""
        info = self._hub_mixin_info
        return model_card(self.contents(), info.model_card_data, paper_url=info.paper_url, **kwargs)
