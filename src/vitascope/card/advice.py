"""What a caller is told of a request that is granted: what has no effect, or not the one that was meant."""

from __future__ import annotations

import re

from vitascope.card.model_card import ModelCard
from vitascope.request import GenerationRequest


def request_warnings(request: GenerationRequest, card: ModelCard) -> list[str]:
    """Tell the caller of what will have no effect, or not the one that was meant."""
    return [
        *prompt_warnings(request.prompt, card),
        *cache_warnings(request),
        *guidance_warnings(request, card),
    ]


def guidance_warnings(request: GenerationRequest, card: ModelCard) -> list[str]:
    """Tell the caller of a negative prompt, other than the model's own, that no guidance reads."""
    native = card.defaults
    if request.negative_prompt in ("", native.negative_prompt):
        return []
    name, scale = "guidance_scale", max(request.guidance_scale, request.guidance_scale_2 or 0.0)
    if native.true_cfg_scale is not None:  # its guidance_scale reads no negative prompt
        name, scale = "true_cfg_scale", request.true_cfg_scale or 1.0
    if scale > 1.0:
        return []
    return [f"The negative prompt is not read: {name} is {scale:g}, and it takes one above 1."]


def prompt_warnings(prompt: str, card: ModelCard) -> list[str]:
    """Advice for a model with a small vocabulary: which words it does not know, and prompts that work."""
    guide = card.prompt_guide
    if guide is None:
        return []
    known = set(guide.known_words)
    unknown = [w for w in dict.fromkeys(re.findall(r"[^\W_]+", prompt.lower())) if w not in known]
    if not unknown:
        return []
    words = ", ".join(repr(w) for w in unknown[:8])
    examples = "; ".join(repr(e) for e in guide.examples[:3])
    return [f"{card.name} does not know {words}; it makes moving shapes. Prompts that work: {examples}."]


def cache_warnings(request: GenerationRequest) -> list[str]:
    """Tell the caller of an attention cache that spares no step."""
    cache, num_steps = request.attention_cache, request.num_steps
    if cache is None or cache.acts_within(num_steps):
        return []
    needs = "it needs an interval above 1, and a start_step below end_step and below the last step"
    return [f"The attention cache spares none of the {num_steps} steps: {needs}."]
