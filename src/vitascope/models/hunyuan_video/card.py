"""HunyuanVideo's native values and rules, told from a folder's configurations."""

from __future__ import annotations

from vitascope.card import Defaults, ModelCard, Rules
from vitascope.models.hunyuan_video.parts import HunyuanVideoParts
from vitascope.models.hunyuan_video.text import MAX_TEXT_TOKENS
from vitascope.models.manifest import build_card
from vitascope.sampling.solvers import SOLVERS, native_shift, native_solver
from vitascope.weights.checkpoint import Checkpoint

_NUM_FRAMES = 129
_MAX_PIXELS = 1920 * 1088
_MAX_FRAMES = 257


def card_of(checkpoint: Checkpoint, parts: HunyuanVideoParts) -> ModelCard:
    """Make the card of a loaded HunyuanVideo folder."""
    return build_card(
        checkpoint, "hunyuan_video", tasks=parts.tasks, defaults=_defaults(parts), rules=_rules(parts)
    )


def _defaults(parts: HunyuanVideoParts) -> Defaults:
    # The reference makes 129 frames and throws the first four away where the picture lies beside the latents.
    unseen = parts.vae.temporal if parts.way == "latent_concat" else 0
    embedded = parts.embeds_guidance
    return Defaults(
        height=720,
        width=1280,
        num_frames=_NUM_FRAMES - unseen,
        fps=24.0,
        num_inference_steps=50,
        guidance_scale=6.0 if embedded else 1.0,
        true_cfg_scale=1.0 if embedded else None,
        flow_shift=native_shift(parts.scheduler),
        sample_solver=native_solver(parts.scheduler),
        max_sequence_length=MAX_TEXT_TOKENS,
    )


def _rules(parts: HunyuanVideoParts) -> Rules:
    return Rules(
        size_multiple=parts.vae.spatial * parts.transformer.config.patch_size,
        frame_stride=parts.vae.temporal,
        max_pixels=_MAX_PIXELS,
        max_frames=_MAX_FRAMES,
        solvers=SOLVERS,
        max_sequence_length=MAX_TEXT_TOKENS,
    )
