"""What a Wan folder holds: its networks, loaded, and the switches of its pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    T5Tokenizer,
    T5TokenizerFast,
    UMT5EncoderModel,
)

from vitascope.errors import CheckpointError
from vitascope.models.convolutions import use_fast_convolutions
from vitascope.models.wan.attention import PassMemory, with_memory
from vitascope.models.wan.image import ImageEncoder
from vitascope.models.wan.text import TextEncoder
from vitascope.models.wan.vae import WanVae
from vitascope.request import Task
from vitascope.weights.checkpoint import Checkpoint, Placement

_TOKENIZERS = {
    "T5Tokenizer": T5Tokenizer,
    "T5TokenizerFast": T5TokenizerFast,
    "TokenizersBackend": PreTrainedTokenizerFast,
    "PreTrainedTokenizerFast": PreTrainedTokenizerFast,
}
# Pillow's on every machine: torchvision's resizes a little differently, and may or may not be installed.
_IMAGE_PROCESSORS = {
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "CLIPImageProcessorPil": CLIPImageProcessorPil,
}
_TRANSFORMERS = {"WanTransformer3DModel": WanTransformer3DModel}

# The bundled folder's sibling of `transformer` for tasks with pictures; diffusers' index does not list it.
PICTURE_SIBLING = "transformer_i2v"


@dataclass(frozen=True, slots=True)
class Expert:
    """One transformer, and what its passes take from earlier ones."""

    network: Any
    memory: PassMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class WanParts:
    """A loaded folder; `boundary_ratio` parts Wan 2.2 A14B's experts, `expand_timesteps` is Wan 2.2 5B's."""

    text: TextEncoder
    vae: WanVae
    expert: Expert
    low_noise_expert: Expert | None
    picture_expert: Expert | None
    image: ImageEncoder | None
    scheduler: dict[str, Any]
    boundary_ratio: float | None
    expand_timesteps: bool

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the networks can do, told from their channels and image embedders."""
        if self.expand_timesteps:
            return ("t2v", "i2v", "v2v")
        config = self.expert.network.config
        if config.in_channels == self.vae.channels:
            return ("t2v", "v2v") if self.picture_expert is None else ("t2v", "i2v", "flf2v", "v2v")
        if config.image_dim is None:
            return ("i2v", "flf2v")
        return ("i2v",) if config.pos_embed_seq_len is None else ("flf2v",)


def load_parts(checkpoint: Checkpoint, placement: Placement) -> WanParts:
    """Load every network of a Wan folder.

    Raises:
        CheckpointError: something is missing, damaged, of an unknown class, or does not fit together.

    """
    device, dtype = placement.device, placement.dtype

    def transformer(part: str) -> Expert:
        kind = checkpoint.accepted(part, _TRANSFORMERS) if part in checkpoint.index else WanTransformer3DModel
        network = checkpoint.network(part, kind, device, dtype)
        return Expert(network, with_memory(network))

    vae_kind = checkpoint.accepted("vae", {"AutoencoderKLWan": AutoencoderKLWan})
    vae = checkpoint.network("vae", vae_kind, device, placement.precise_dtype)
    use_fast_convolutions(vae.decoder, vae.post_quant_conv)
    has_sibling = (checkpoint.root / PICTURE_SIBLING).is_dir()
    parts = WanParts(
        text=_load_text(checkpoint, placement),
        vae=WanVae(vae),
        expert=transformer("transformer"),
        low_noise_expert=transformer("transformer_2") if checkpoint.has("transformer_2") else None,
        picture_expert=transformer(PICTURE_SIBLING) if has_sibling else None,
        image=_load_image(checkpoint, placement) if checkpoint.has("image_encoder") else None,
        scheduler=checkpoint.config("scheduler", "scheduler_config.json"),
        boundary_ratio=checkpoint.index.get("boundary_ratio"),
        expand_timesteps=bool(checkpoint.index.get("expand_timesteps", False)),
    )
    _check_fit(parts)
    return parts


def _load_text(checkpoint: Checkpoint, placement: Placement) -> TextEncoder:
    tokenizer = checkpoint.processor("tokenizer", _TOKENIZERS)
    kind = checkpoint.accepted("text_encoder", {"UMT5EncoderModel": UMT5EncoderModel})
    encoder = checkpoint.network("text_encoder", kind, placement.device, placement.dtype)
    return TextEncoder(tokenizer, encoder, placement.dtype)


def _load_image(checkpoint: Checkpoint, placement: Placement) -> ImageEncoder:
    processor = checkpoint.processor("image_processor", _IMAGE_PROCESSORS)
    kind = checkpoint.accepted("image_encoder", {"CLIPVisionModel": CLIPVisionModel})
    # With more bits, as the reference's users are told to: a picture is encoded once, and steers every step.
    encoder = checkpoint.network("image_encoder", kind, placement.device, placement.precise_dtype)
    return ImageEncoder(processor, encoder, placement.dtype)


def _check_fit(parts: WanParts) -> None:
    if (parts.boundary_ratio is None) != (parts.low_noise_expert is None):
        raise CheckpointError(
            "model_index.json: transformer_2 and boundary_ratio belong together; one of them is missing."
        )
    config, channels = parts.expert.network.config, parts.vae.channels
    if config.out_channels != channels:
        raise CheckpointError(
            f"transformer/config.json makes {config.out_channels} channels; vae/config.json has {channels}."
        )
    if config.image_dim is not None and parts.image is None:
        raise CheckpointError("The transformer reads image tokens, but the folder has no image_encoder.")
    beside = parts.vae.temporal + channels
    concatenates = parts.picture_expert or (None if config.in_channels == channels else parts.expert)
    if concatenates is not None and concatenates.network.config.in_channels != channels + beside:
        raise CheckpointError(
            f"A transformer for pictures reads {channels + beside} channels (latents, mask, condition); "
            f"this one reads {concatenates.network.config.in_channels}."
        )
