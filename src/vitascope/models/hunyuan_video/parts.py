"""What a HunyuanVideo folder holds: its networks, loaded, and which way it takes a picture in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoTransformer3DModel
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPTokenizerFast,
    LlamaModel,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from vitascope.errors import CheckpointError
from vitascope.models.hunyuan_video.attention import drop_empty_masks
from vitascope.models.hunyuan_video.image import Way
from vitascope.models.hunyuan_video.picture_text import Llava, PictureTextEncoder
from vitascope.models.hunyuan_video.text import ClipText, TextEncoder
from vitascope.models.hunyuan_video.vae import HunyuanVideoVae
from vitascope.models.text_padding import TextMask
from vitascope.request import Task
from vitascope.weights.checkpoint import Checkpoint, Placement

_FAST = {
    "TokenizersBackend": PreTrainedTokenizerFast,
    "PreTrainedTokenizerFast": PreTrainedTokenizerFast,
}
# LLaMA 3's tokenizer.json holds a BPE of bytes. Under the name that the folders give, transformers 5 makes a
# tokenizer of LLaMA 2's kind of it, which loses every space; here it is read as it is written.
_TOKENIZERS = {
    **_FAST,
    "LlamaTokenizer": PreTrainedTokenizerFast,
    "LlamaTokenizerFast": PreTrainedTokenizerFast,
}
_CLIP_TOKENIZERS = {**_FAST, "CLIPTokenizer": CLIPTokenizer, "CLIPTokenizerFast": CLIPTokenizerFast}
# The Pillow one on every machine: torchvision's resizes a little differently, and may or may not be
# installed.
_IMAGE_PROCESSORS = {
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "CLIPImageProcessorFast": CLIPImageProcessorPil,
    "CLIPImageProcessorPil": CLIPImageProcessorPil,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HunyuanVideoParts:
    """A loaded folder. `way` is None for text to video; one of the two text encoders is there, by `way`."""

    transformer: Any
    text_mask: TextMask
    vae: HunyuanVideoVae
    text: TextEncoder | None
    picture_text: PictureTextEncoder | None
    scheduler: dict[str, Any]
    way: Way | None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the networks can do."""
        return ("t2v",) if self.way is None else ("i2v",)

    @property
    def embeds_guidance(self) -> bool:
        """Whether the guidance scale is an input of the transformer, distilled into it."""
        return bool(self.transformer.config.guidance_embeds)


def load_parts(checkpoint: Checkpoint, placement: Placement) -> HunyuanVideoParts:
    """Load every network of a HunyuanVideo folder.

    Raises:
        CheckpointError: something is missing, damaged, of an unknown class, or does not fit together.

    """
    device, dtype = placement.device, placement.dtype
    kind = checkpoint.accepted(
        "transformer", {"HunyuanVideoTransformer3DModel": HunyuanVideoTransformer3DModel}
    )
    transformer = checkpoint.network("transformer", kind, device, dtype)
    kind = checkpoint.accepted("vae", {"AutoencoderKLHunyuanVideo": AutoencoderKLHunyuanVideo})
    vae = HunyuanVideoVae(checkpoint.network("vae", kind, device, placement.vae_dtype(torch.float16)))
    way: Way | None = transformer.config.image_condition_type
    _check_fit(checkpoint, transformer.config, vae.channels)
    return HunyuanVideoParts(
        transformer=transformer,
        text_mask=drop_empty_masks(transformer),
        vae=vae,
        text=_load_text(checkpoint, placement) if way is None else None,
        picture_text=None if way is None else _load_picture_text(checkpoint, placement),
        scheduler=checkpoint.config("scheduler", "scheduler_config.json"),
        way=way,
    )


def _load_text(checkpoint: Checkpoint, placement: Placement) -> TextEncoder:
    kind = checkpoint.accepted("text_encoder", {"LlamaModel": LlamaModel})
    return TextEncoder(
        checkpoint.processor("tokenizer", _TOKENIZERS),
        checkpoint.network("text_encoder", kind, placement.device, placement.dtype),
        _load_clip(checkpoint, placement),
        placement.dtype,
    )


def _load_picture_text(checkpoint: Checkpoint, placement: Placement) -> PictureTextEncoder:
    kind = checkpoint.accepted(
        "text_encoder", {"LlavaForConditionalGeneration": LlavaForConditionalGeneration}
    )
    llava = Llava(
        checkpoint.processor("tokenizer", _TOKENIZERS),
        checkpoint.processor("image_processor", _IMAGE_PROCESSORS),
        checkpoint.network("text_encoder", kind, placement.device, placement.dtype),
    )
    return PictureTextEncoder(llava, _load_clip(checkpoint, placement), placement.dtype)


def _load_clip(checkpoint: Checkpoint, placement: Placement) -> ClipText:
    kind = checkpoint.accepted("text_encoder_2", {"CLIPTextModel": CLIPTextModel})
    return ClipText(
        checkpoint.processor("tokenizer_2", _CLIP_TOKENIZERS),
        checkpoint.network("text_encoder_2", kind, placement.device, placement.dtype),
        placement.dtype,
    )


def _check_fit(checkpoint: Checkpoint, config: Any, channels: int) -> None:
    """Compare the transformer's configuration with the VAE's channels and with the pipeline."""
    way = config.image_condition_type
    reads = 2 * channels + 1 if way == "latent_concat" else channels
    if (config.in_channels, config.out_channels) != (reads, channels):
        raise CheckpointError(
            f"transformer/config.json reads {config.in_channels} channels and makes {config.out_channels}; "
            f"with the {channels} of vae/config.json it should read {reads} and make {channels}."
        )
    if (way is not None) != (checkpoint.pipeline == "HunyuanVideoImageToVideoPipeline"):
        raise CheckpointError(
            f"model_index.json says {checkpoint.pipeline!r}, but transformer/config.json has "
            f"image_condition_type {way!r}; one of them is wrong."
        )
