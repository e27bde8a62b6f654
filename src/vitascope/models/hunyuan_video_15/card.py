"""HunyuanVideo 1.5's native values and rules, told from a folder's configurations."""

from __future__ import annotations

from diffusers.pipelines.hunyuan_video1_5.image_processor import HunyuanVideo15ImageProcessor

from vitascope.card import Defaults, ModelCard, Rules
from vitascope.models.hunyuan_video_15.parts import HunyuanVideo15Parts
from vitascope.models.hunyuan_video_15.text import MAX_TEXT_TOKENS
from vitascope.models.manifest import build_card
from vitascope.sampling.solvers import SOLVERS, native_shift, native_solver
from vitascope.weights.checkpoint import Checkpoint

_MAX_PIXELS = 1920 * 1088
_MAX_FRAMES = 241
_NUM_STEPS = 50
_DISTILLED_NUM_STEPS = 12  # what the step-distilled checkpoints, told by their mean flow, were made for


def card_of(checkpoint: Checkpoint, parts: HunyuanVideo15Parts) -> ModelCard:
    """Make the card of a loaded HunyuanVideo 1.5 folder."""
    return build_card(
        checkpoint, "hunyuan_video_15", tasks=parts.tasks, defaults=_defaults(parts), rules=_rules(parts)
    )


def _defaults(parts: HunyuanVideo15Parts) -> Defaults:
    config = parts.transformer.config
    processor = HunyuanVideo15ImageProcessor(vae_scale_factor=parts.vae.spatial)
    height, width = processor.calculate_default_height_width(9, 16, config.target_size)
    return Defaults(
        height=height,
        width=width,
        num_frames=121,
        fps=24.0,
        num_inference_steps=_DISTILLED_NUM_STEPS if config.use_meanflow else _NUM_STEPS,
        guidance_scale=parts.guider.guidance_scale if parts.guider.enabled else 1.0,
        flow_shift=native_shift(parts.scheduler),
        sample_solver=native_solver(parts.scheduler),
        max_sequence_length=MAX_TEXT_TOKENS,
    )


def _rules(parts: HunyuanVideo15Parts) -> Rules:
    return Rules(
        size_multiple=parts.vae.spatial * parts.transformer.config.patch_size,
        frame_stride=parts.vae.temporal,
        max_pixels=_MAX_PIXELS,
        max_frames=_MAX_FRAMES,
        solvers=SOLVERS,
        max_sequence_length=MAX_TEXT_TOKENS,
    )
