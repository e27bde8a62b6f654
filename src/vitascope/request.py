"""What a caller may ask for: `GenerationRequest`, frozen and complete.

It knows no HTTP and no model: defaults were filled in and rules were checked (see `card.py`) before one
exists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Task = Literal["t2v", "i2v", "flf2v"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCache:
    """Steps whose self-attention is not computed but taken from an earlier step; steps count from 0.

    What step `start_step` computed serves the steps after it, up to and with `end_step`; every `interval`-th
    step computes anew. An interval of 1, or an end at the start, skips nothing.
    """

    start_step: int
    interval: int
    end_step: int

    def reuses(self, step: int) -> bool:
        """Whether this step takes what an earlier one computed."""
        return self.start_step < step <= self.end_step and (step - self.start_step) % self.interval != 0

    def acts_within(self, num_steps: int) -> bool:
        """Whether any of so many steps is spared anything."""
        return self.interval > 1 and self.start_step < min(self.end_step, num_steps - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One clip to make, or `num_outputs` that differ in their seeds alone; every value decided.

    `height` and `width` are pixels, `fps` frames a second (fractions allowed), `seed` 0..2**63-1.
    `first_frame` and `last_frame` are keys of pictures in the artifact store (`media.inputs`), never paths or
    URLs. A None means that the model has no such setting. `true_cfg_scale` guides with a second,
    unconditional pass where `guidance_scale` is an input of a guidance-distilled model. At the part
    `boundary_ratio` of the noise levels a second expert takes over. `loras` are the adapters to add,
    each with its scale. Output i of several has the seed `seed` + i.
    """

    model: str
    prompt: str
    negative_prompt: str
    height: int
    width: int
    num_frames: int
    fps: float
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float | None = None
    boundary_ratio: float | None = None
    true_cfg_scale: float | None = None
    flow_shift: float | None = None
    sample_solver: str | None = None
    max_sequence_length: int | None = None
    seed: int
    first_frame: str | None = None
    last_frame: str | None = None
    loras: tuple[tuple[str, float], ...] = ()
    attention_cache: AttentionCache | None = None
    num_outputs: int = 1

    def output(self, index: int) -> GenerationRequest:
        """Return the request that makes one of the outputs, the same to the bit, by itself."""
        return replace(self, seed=self.seed + index, num_outputs=1)

    @property
    def all_steps(self) -> int:
        """Denoising steps of all outputs together; they are counted through."""
        return self.num_outputs * self.num_inference_steps

    @property
    def task(self) -> Task:
        """What kind of generation the given pictures make of it."""
        if self.first_frame is None:
            return "t2v"
        return "i2v" if self.last_frame is None else "flf2v"

    @property
    def duration_s(self) -> float:
        """Length of the clip in seconds."""
        return self.num_frames / self.fps
