"""What a CogVideoX folder holds: its networks, loaded, and whether they fit together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from transformers import PreTrainedTokenizerFast, T5EncoderModel, T5Tokenizer, T5TokenizerFast

from vitascope.errors import CheckpointError
from vitascope.models.cogvideox.text import TextEncoder
from vitascope.models.cogvideox.vae import CogVideoXVae, Shape
from vitascope.request import GenerationRequest, Task
from vitascope.weights.checkpoint import Checkpoint, Placement

_TOKENIZERS = {
    "T5Tokenizer": T5Tokenizer,
    "T5TokenizerFast": T5TokenizerFast,
    "TokenizersBackend": PreTrainedTokenizerFast,
    "PreTrainedTokenizerFast": PreTrainedTokenizerFast,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CogVideoXParts:
    """A loaded folder. `scheduler` is its scheduler_config.json."""

    text: TextEncoder
    vae: CogVideoXVae
    transformer: Any
    scheduler: dict[str, Any]

    @property
    def task(self) -> Task:
        """The one thing the network does: with channels for a first frame it needs one."""
        return "t2v" if self.transformer.config.in_channels == self.vae.channels else "i2v"

    def padding(self, num_frames: int) -> int:
        """Return how many latent frames go before a clip's own, to fill whole patches (CogVideoX 1.5)."""
        return -self.vae.num_latent_frames(num_frames) % (self.transformer.config.patch_size_t or 1)

    def latent_shape(self, request: GenerationRequest) -> Shape:
        """Return (1, T, C, H, W) for a clip, padding included."""
        frames = self.vae.num_latent_frames(request.num_frames) + self.padding(request.num_frames)
        spatial = self.vae.spatial
        return 1, frames, self.vae.channels, request.height // spatial, request.width // spatial


def load_parts(checkpoint: Checkpoint, placement: Placement) -> CogVideoXParts:
    """Load every network of a CogVideoX folder.

    Raises:
        CheckpointError: something is missing, damaged, of an unknown class, or does not fit together.

    """
    device, dtype = placement.device, placement.dtype
    kind = checkpoint.accepted("transformer", {"CogVideoXTransformer3DModel": CogVideoXTransformer3DModel})
    vae_kind = checkpoint.accepted("vae", {"AutoencoderKLCogVideoX": AutoencoderKLCogVideoX})
    text_kind = checkpoint.accepted("text_encoder", {"T5EncoderModel": T5EncoderModel})
    tokenizer = checkpoint.processor("tokenizer", _TOKENIZERS)
    encoder = checkpoint.network("text_encoder", text_kind, device, dtype)
    vae = checkpoint.network("vae", vae_kind, device, placement.vae_dtype(dtype))
    parts = CogVideoXParts(
        text=TextEncoder(tokenizer, encoder, dtype),
        vae=CogVideoXVae(vae),
        transformer=checkpoint.network("transformer", kind, device, dtype),
        scheduler=checkpoint.config("scheduler", "scheduler_config.json"),
    )
    _check_fit(parts, encoder.config.d_model)
    return parts


def _check_fit(parts: CogVideoXParts, text_dim: int) -> None:
    config, channels = parts.transformer.config, parts.vae.channels
    if config.out_channels != channels:
        raise CheckpointError(
            f"transformer/config.json makes {config.out_channels} latent channels; "
            f"vae/config.json has {channels}."
        )
    if config.in_channels not in (channels, 2 * channels):
        raise CheckpointError(
            f"transformer/config.json reads {config.in_channels} channels; "
            f"for text it is {channels} (the latents), for a first frame {2 * channels}."
        )
    if config.text_embed_dim != text_dim:
        raise CheckpointError(
            f"transformer/config.json reads text of {config.text_embed_dim} dimensions; "
            f"the text encoder makes {text_dim}."
        )
