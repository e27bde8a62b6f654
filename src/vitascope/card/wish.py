"""What a caller said of a clip, in our words."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vitascope.request import AttentionCache, Continuation


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a caller said, in our words; None means not said. `num_frames` beats `seconds`."""

    prompt: str | None = None
    negative_prompt: str | None = None
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    seconds: float | None = None
    fps: float | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    boundary_ratio: float | None = None
    true_cfg_scale: float | None = None
    flow_shift: float | None = None
    sample_solver: str | None = None
    max_sequence_length: int | None = None
    loras: tuple[tuple[str, float], ...] | None = None
    seed: int | None = None
    first_frame: str | None = None
    last_frame: str | None = None
    attention_cache: AttentionCache | None = None
    num_outputs: int | None = None
    video: str | None = None
    strength: float | None = None
    continues: Continuation | None = None


WISH_FIELDS = tuple(f.name for f in fields(Wish))
