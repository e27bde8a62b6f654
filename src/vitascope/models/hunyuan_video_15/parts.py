"""What a HunyuanVideo 1.5 folder holds: its networks, loaded, and its guider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo15, HunyuanVideo15Transformer3DModel
from transformers import (
    ByT5Tokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLTextModel,
    Qwen2Tokenizer,
    Qwen2TokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionModel,
    T5EncoderModel,
)

from vitascope.errors import CheckpointError
from vitascope.models.hunyuan_video_15.attention import use_thin_masks
from vitascope.models.hunyuan_video_15.guider import Guider
from vitascope.models.hunyuan_video_15.image import ImageEncoder
from vitascope.models.hunyuan_video_15.text import GlyphText, QwenText, TextEncoder
from vitascope.models.hunyuan_video_15.vae import HunyuanVideo15Vae
from vitascope.models.text_padding import TextMask
from vitascope.request import Task
from vitascope.weights.checkpoint import Checkpoint, Placement

_TOKENIZERS = {
    "Qwen2Tokenizer": Qwen2Tokenizer,
    "Qwen2TokenizerFast": Qwen2TokenizerFast,
    "TokenizersBackend": PreTrainedTokenizerFast,
    "PreTrainedTokenizerFast": PreTrainedTokenizerFast,
}
# Pillow's on every machine: torchvision's resizes a little differently, and may or may not be installed.
_IMAGE_PROCESSORS = {
    "SiglipImageProcessor": SiglipImageProcessorPil,
    "SiglipImageProcessorFast": SiglipImageProcessorPil,
    "SiglipImageProcessorPil": SiglipImageProcessorPil,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HunyuanVideo15Parts:
    """A loaded folder; `image` is None for text to video."""

    transformer: Any
    text_mask: TextMask
    vae: HunyuanVideo15Vae
    text: TextEncoder
    image: ImageEncoder | None
    scheduler: dict[str, Any]
    guider: Guider

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the networks can do."""
        return ("t2v",) if self.image is None else ("i2v",)


def load_parts(checkpoint: Checkpoint, placement: Placement) -> HunyuanVideo15Parts:
    """Load every network of a HunyuanVideo 1.5 folder.

    Raises:
        CheckpointError: something is missing, damaged, of an unknown class, or does not fit together.

    """
    device, dtype = placement.device, placement.dtype
    kind = checkpoint.accepted(
        "transformer", {"HunyuanVideo15Transformer3DModel": HunyuanVideo15Transformer3DModel}
    )
    transformer = checkpoint.network("transformer", kind, device, dtype)
    kind = checkpoint.accepted("vae", {"AutoencoderKLHunyuanVideo15": AutoencoderKLHunyuanVideo15})
    vae = HunyuanVideo15Vae(checkpoint.network("vae", kind, device, placement.vae_dtype(torch.float16)))
    _check_fit(transformer.config, vae.channels)
    checkpoint.accepted("guider", {"ClassifierFreeGuidance": Guider})
    takes_picture = checkpoint.pipeline == "HunyuanVideo15ImageToVideoPipeline"
    return HunyuanVideo15Parts(
        transformer=transformer,
        text_mask=use_thin_masks(transformer),
        vae=vae,
        text=_load_text(checkpoint, placement),
        image=_load_image(checkpoint, placement) if takes_picture else None,
        scheduler=checkpoint.config("scheduler", "scheduler_config.json"),
        guider=Guider.from_config(checkpoint.config("guider", "guider_config.json")),
    )


def _load_text(checkpoint: Checkpoint, placement: Placement) -> TextEncoder:
    device, dtype = placement.device, placement.dtype
    kind = checkpoint.accepted("text_encoder", {"Qwen2_5_VLTextModel": Qwen2_5_VLTextModel})
    kind_2 = checkpoint.accepted("text_encoder_2", {"T5EncoderModel": T5EncoderModel})
    qwen = QwenText(
        checkpoint.processor("tokenizer", _TOKENIZERS),
        checkpoint.network("text_encoder", kind, device, dtype),
    )
    glyphs = GlyphText(
        checkpoint.processor("tokenizer_2", {"ByT5Tokenizer": ByT5Tokenizer}),
        checkpoint.network("text_encoder_2", kind_2, device, dtype),
    )
    return TextEncoder(qwen, glyphs, dtype)


def _load_image(checkpoint: Checkpoint, placement: Placement) -> ImageEncoder:
    processor = checkpoint.processor("feature_extractor", _IMAGE_PROCESSORS)
    kind = checkpoint.accepted("image_encoder", {"SiglipVisionModel": SiglipVisionModel})
    encoder = checkpoint.network("image_encoder", kind, placement.device, placement.dtype)
    return ImageEncoder(processor, encoder, placement.dtype)


def _check_fit(config: Any, channels: int) -> None:
    reads = 2 * channels + 1  # latents, the picture's, a mask
    if (config.in_channels, config.out_channels) != (reads, channels):
        raise CheckpointError(
            f"transformer/config.json reads {config.in_channels} channels and makes {config.out_channels}; "
            f"with the {channels} of vae/config.json it should read {reads} and make {channels}."
        )
