"""Wan's native values and rules, told from a folder's configurations."""

from __future__ import annotations

import math
from typing import Any

from vitascope.card import Defaults, ModelCard, Rules
from vitascope.models.manifest import build_card
from vitascope.models.wan.parts import WanParts
from vitascope.sampling.solvers import SOLVERS, native_shift, native_solver
from vitascope.weights.checkpoint import Checkpoint

# Wan's own, from its published inference configuration.
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，"  # noqa: RUF001
    "低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，"  # noqa: RUF001
    "毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"  # noqa: RUF001
)
TEXT_TOKENS = 512
_MAX_PIXELS = 1920 * 1088
_MAX_FRAMES = 241


def card_of(checkpoint: Checkpoint, parts: WanParts) -> ModelCard:
    """Make the card of a loaded Wan folder."""
    return build_card(checkpoint, "wan", tasks=parts.tasks, defaults=_defaults(parts), rules=_rules(parts))


def _defaults(parts: WanParts) -> Defaults:
    height, width, num_frames, fps, steps = 480, 832, 81, 16.0, 50
    guidance, guidance_2 = 5.0, None
    if parts.expand_timesteps:  # Wan 2.2 5B
        height, width, num_frames, fps = 704, 1280, 121, 24.0
    elif parts.low_noise_expert is not None:  # Wan 2.2 A14B
        steps = 40
        guidance, guidance_2 = (4.0, 3.0) if "t2v" in parts.tasks else (3.5, 3.5)
    elif parts.tasks == ("flf2v",):  # Wan 2.1's for two pictures is published for 720p alone
        height, width = 720, 1280
    return Defaults(
        height=height,
        width=width,
        num_frames=num_frames,
        fps=fps,
        num_inference_steps=steps,
        guidance_scale=guidance,
        guidance_scale_2=guidance_2,
        boundary_ratio=parts.boundary_ratio,
        flow_shift=native_shift(parts.scheduler),
        negative_prompt=NEGATIVE_PROMPT,
        sample_solver=native_solver(parts.scheduler),
        max_sequence_length=TEXT_TOKENS,
    )


def _rules(parts: WanParts) -> Rules:
    config, vae = parts.expert.network.config, parts.vae
    frames_per_patch, *patch = config.patch_size
    longest: int = config.rope_max_seq_len  # rotary positions end there, along each axis, in patches
    return Rules(
        size_multiple=vae.spatial * math.lcm(*patch),
        frame_stride=vae.temporal,
        max_pixels=_MAX_PIXELS,
        max_height=longest * patch[0] * vae.spatial,
        max_width=longest * patch[1] * vae.spatial,
        max_frames=min(_MAX_FRAMES, (longest * frames_per_patch - 1) * vae.temporal + 1),
        solvers=SOLVERS,
        min_sequence_length=parts.text.min_length,
        # Where image tokens go before the text, diffusers takes the text to be 512 tokens: no choice there.
        max_sequence_length=None if config.image_dim is not None else TEXT_TOKENS,
        attention_cache_token_bytes=_attention_bytes(parts.expert.network),
    )


def _attention_bytes(network: Any) -> int:
    """Return what the outputs of all self-attentions take for one token."""
    config = network.config
    dim: int = config.num_attention_heads * config.attention_head_dim
    size: int = dim * config.num_layers * network.dtype.itemsize
    return size
