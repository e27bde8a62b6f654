"""What an LTX-2 folder holds: its networks, loaded, and what tells its kinds apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder, LTX2VocoderWithBWE
from transformers import (
    Gemma3ForConditionalGeneration,
    GemmaTokenizer,
    GemmaTokenizerFast,
    PreTrainedTokenizerFast,
)

from vitascope.errors import CheckpointError
from vitascope.models.ltx2.schedule import is_distilled
from vitascope.models.ltx2.text import TextEncoder
from vitascope.models.ltx2.vae import SoundDecoder, VideoVae
from vitascope.weights.checkpoint import Checkpoint, Placement

_TOKENIZERS = {
    "GemmaTokenizer": GemmaTokenizer,
    "GemmaTokenizerFast": GemmaTokenizerFast,
    "TokenizersBackend": PreTrainedTokenizerFast,
    "PreTrainedTokenizerFast": PreTrainedTokenizerFast,
}
_VOCODERS = {"LTX2Vocoder": LTX2Vocoder, "LTX2VocoderWithBWE": LTX2VocoderWithBWE}
_EULER = "FlowMatchEulerDiscreteScheduler"
_SCHEDULER = "scheduler/scheduler_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ltx2Parts:
    """A loaded folder."""

    text: TextEncoder
    transformer: Any
    vae: VideoVae
    sound: SoundDecoder
    scheduler: dict[str, Any]

    @property
    def is_distilled(self) -> bool:
        """Whether it is made for a fixed few steps without guidance."""
        return is_distilled(self.scheduler)

    @property
    def is_first_version(self) -> bool:
        """Whether it is LTX-2 and not LTX-2.3, which has a projection of the text for each stream."""
        return bool(self.transformer.config.use_prompt_embeddings)


def load_parts(checkpoint: Checkpoint, placement: Placement) -> Ltx2Parts:
    """Load every network of an LTX-2 folder.

    The video VAE is a bfloat16 network like the transformer; the sound's small decoders keep more bits.

    Raises:
        CheckpointError: something is missing, damaged, of an unknown class, or does not fit together.

    """
    device = placement.device

    def network(part: str, allowed: dict[str, Any], *, precise: bool = False) -> Any:
        kind = checkpoint.accepted(part, allowed)
        return checkpoint.network(part, kind, device, placement.precise_dtype if precise else placement.dtype)

    tokenizer = checkpoint.processor("tokenizer", _TOKENIZERS)
    encoder = network("text_encoder", {"Gemma3ForConditionalGeneration": Gemma3ForConditionalGeneration})
    connectors = network("connectors", {"LTX2TextConnectors": LTX2TextConnectors})
    audio_vae = network("audio_vae", {"AutoencoderKLLTX2Audio": AutoencoderKLLTX2Audio}, precise=True)
    parts = Ltx2Parts(
        text=TextEncoder(tokenizer, encoder, connectors),
        transformer=network("transformer", {"LTX2VideoTransformer3DModel": LTX2VideoTransformer3DModel}),
        vae=VideoVae(network("vae", {"AutoencoderKLLTX2Video": AutoencoderKLLTX2Video})),
        sound=SoundDecoder(audio_vae, network("vocoder", _VOCODERS, precise=True)),
        scheduler=checkpoint.config("scheduler", "scheduler_config.json"),
    )
    _check_fit(parts)
    return parts


def _check_fit(parts: Ltx2Parts) -> None:
    config, scheduler = parts.transformer.config, parts.scheduler
    if scheduler.get("_class_name") != _EULER or scheduler.get("stochastic_sampling"):
        raise CheckpointError(f"{_SCHEDULER}: LTX-2 is solved by a {_EULER} that draws no noise.")
    if (config.patch_size, config.patch_size_t) != (1, 1):
        raise CheckpointError("transformer/config.json: LTX-2's patch_size and patch_size_t are 1.")
    for what, reads, makes in (
        ("vae", config.in_channels, parts.vae.channels),
        ("audio_vae", config.audio_in_channels, parts.sound.channels * parts.sound.mel_bins),
    ):
        if reads != makes:
            raise CheckpointError(
                f"transformer/config.json reads {reads} features a token; {what}/config.json makes {makes}."
            )
