"""LTX-2's native values and rules, told from a folder's configurations."""

from __future__ import annotations

from dataclasses import replace

from diffusers.pipelines.ltx2.utils import DEFAULT_NEGATIVE_PROMPT

from vitascope.card import Defaults, ModelCard, Rules
from vitascope.models.ltx2.guidance import Guidance, Scales
from vitascope.models.ltx2.parts import Ltx2Parts
from vitascope.models.ltx2.schedule import DISTILLED_STEPS
from vitascope.models.manifest import build_card
from vitascope.weights.checkpoint import Checkpoint

SOLVER = "euler"
_FPS = 24.0

# The published index of the block to perturb, in a network of 48 blocks; smaller ones take the same depth.
_PERTURBED_BLOCK, _PERTURBED_BLOCK_FIRST_VERSION, _OF_BLOCKS = 28, 29, 48


def card_of(checkpoint: Checkpoint, parts: Ltx2Parts) -> ModelCard:
    """Make the card of a loaded LTX-2 folder."""
    card = build_card(
        checkpoint,
        "ltx2",
        tasks=("t2v", "i2v", "flf2v"),
        defaults=_defaults(parts),
        rules=_rules(parts),
    )
    return replace(card, makes_sound=True)


def native_guidance(parts: Ltx2Parts) -> Guidance:
    """Return the scales that a checkpoint is made for; a request can change the video's text scale alone."""
    if parts.is_distilled:
        return Guidance(Scales(text=1.0))
    config = parts.transformer.config
    index = _PERTURBED_BLOCK_FIRST_VERSION if parts.is_first_version else _PERTURBED_BLOCK
    return Guidance(
        video=Scales(text=3.0, perturbed=1.0, modality=3.0, rescale=0.7),
        audio=Scales(text=7.0, perturbed=1.0, modality=3.0, rescale=0.7),
        # A network that was not configured for it ignores the perturbation: the pass would change nothing.
        block=config.num_layers * index // _OF_BLOCKS if config.perturbed_attn else None,
    )


def _defaults(parts: Ltx2Parts) -> Defaults:
    steps = 40 if parts.is_first_version else 30
    return Defaults(
        height=512,
        width=768,
        num_frames=121,
        fps=_FPS,
        num_inference_steps=DISTILLED_STEPS if parts.is_distilled else steps,
        guidance_scale=native_guidance(parts).video.text,
        negative_prompt=DEFAULT_NEGATIVE_PROMPT,
        sample_solver=SOLVER,
    )


def _rules(parts: Ltx2Parts) -> Rules:
    config, stride = parts.transformer.config, parts.vae.temporal
    seconds = config.pos_embed_max_pos  # rotary positions are laid out for so long a clip
    rules = Rules(
        size_multiple=parts.vae.spatial,
        frame_stride=stride,
        max_pixels=config.base_height * config.base_width,
        max_frames=int(seconds * _FPS) // stride * stride + 1,
        solvers=(SOLVER,),
    )
    if parts.is_distilled:
        return replace(rules, min_steps=DISTILLED_STEPS, max_steps=DISTILLED_STEPS)
    return rules
