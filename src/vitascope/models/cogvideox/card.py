"""CogVideoX's native values and rules, told from a folder's configurations."""

from __future__ import annotations

from typing import Any

from vitascope.card import Defaults, ModelCard, Rules
from vitascope.models.cogvideox.parts import CogVideoXParts
from vitascope.models.manifest import build_card
from vitascope.sampling.cogvideox import SOLVERS, native_solver
from vitascope.weights.checkpoint import Checkpoint

# DPM with the guidance that the authors use beside it: a scale that swings up and down over the steps.
DYNAMIC = "dpm-dynamic"

# What CogVideoX 1.5 is trained at; its configuration may name the end of its positions instead.
_SIZE_15 = (768, 1360)
_MAX_FRAMES, _MAX_FRAMES_15 = 49, 161  # by the authors


def card_of(checkpoint: Checkpoint, parts: CogVideoXParts) -> ModelCard:
    """Make the card of a loaded CogVideoX folder."""
    return build_card(
        checkpoint, "cogvideox", tasks=(parts.task,), defaults=_defaults(parts), rules=_rules(parts)
    )


def _defaults(parts: CogVideoXParts) -> Defaults:
    config = parts.transformer.config
    height, width = _native_size(parts)
    return Defaults(
        height=height,
        width=width,
        num_frames=config.sample_frames - (config.sample_frames - 1) % parts.vae.frame_stride,
        fps=8.0 if config.patch_size_t is None else 16.0,
        num_inference_steps=50,
        guidance_scale=6.0,
        sample_solver=native_solver(parts.scheduler),
        max_sequence_length=config.max_text_seq_length,
    )


def _native_size(parts: CogVideoXParts) -> tuple[int, int]:
    config, spatial = parts.transformer.config, parts.vae.spatial
    height, width = config.sample_height * spatial, config.sample_width * spatial
    return (height, width) if height * width <= _SIZE_15[0] * _SIZE_15[1] else _SIZE_15


def _rules(parts: CogVideoXParts) -> Rules:
    config, spatial = parts.transformer.config, parts.vae.spatial
    is_15 = config.patch_size_t is not None
    # 1.5 counts rotary positions up to the configured size; 1.0 stretches them to fit.
    ends = is_15 and config.use_rotary_positional_embeddings
    learned = config.use_learned_positional_embeddings
    return Rules(
        size_multiple=spatial * config.patch_size,
        frame_stride=parts.vae.frame_stride,
        max_pixels=_SIZE_15[0] * _SIZE_15[1],
        max_frames=max(_MAX_FRAMES_15 if is_15 else _MAX_FRAMES, config.sample_frames),
        max_height=config.sample_height * spatial if ends else None,
        max_width=config.sample_width * spatial if ends else None,
        sizes=((config.sample_height * spatial, config.sample_width * spatial),) if learned else (),
        solvers=(*SOLVERS, DYNAMIC),
        max_sequence_length=None if _counts_text(config) else config.max_text_seq_length,
    )


def _counts_text(config: Any) -> bool:
    """Whether positions are added to text and video as one sequence, which fixes the length of the text."""
    return config.use_learned_positional_embeddings or not config.use_rotary_positional_embeddings
