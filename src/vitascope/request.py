"""What a caller may ask for: `GenerationRequest`, frozen and complete.

It knows no HTTP and no model: defaults were filled in and rules were checked (see `card/`) before one
exists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Task = Literal["t2v", "i2v", "flf2v", "v2v"]


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
class Continuation:
    """A clip to go on from: the key of its frames (`media.clips`), and how many they are.

    What is made begins with its last frame and is joined to it, that frame left out.
    """

    clip: str
    num_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One clip to make, or `num_outputs` that differ in their seeds alone; every value decided.

    `height` and `width` are pixels, `fps` frames a second (fractions allowed), `seed` 0..2**63-1.
    `first_frame` and `last_frame` are keys of pictures in the artifact store (`media.inputs`), `video` that
    of a clip (`media.clips`) that is made anew from `strength` of the noise: never paths or URLs. A None
    means that the model has no such setting. `true_cfg_scale` guides with a second, unconditional pass where
    `guidance_scale` is an input of a guidance-distilled model. At the part `boundary_ratio` of the noise
    levels a second expert takes over. `loras` are the adapters to add, each with its scale. Output i of
    several has the seed `seed` + i.
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
    video: str | None = None
    strength: float | None = None
    continues: Continuation | None = None

    def output(self, index: int) -> GenerationRequest:
        """Return the request that makes one of the outputs, the same to the bit, by itself."""
        return replace(self, seed=self.seed + index, num_outputs=1)

    @property
    def num_steps(self) -> int:
        """Denoising steps of one output: of those of a clip made anew only the last ones are taken."""
        if self.strength is None:
            return self.num_inference_steps
        return steps_of(self.num_inference_steps, self.strength)

    @property
    def all_steps(self) -> int:
        """Denoising steps of all outputs together; they are counted through."""
        return self.num_outputs * self.num_steps

    @property
    def task(self) -> Task:
        """What kind of generation the given pictures, or the clip, make of it."""
        if self.video is not None:
            return "v2v"
        if self.first_frame is None:
            return "t2v"
        return "i2v" if self.last_frame is None else "flf2v"

    @property
    def total_frames(self) -> int:
        """Frames of the finished clip, those that it continues among them."""
        return self.num_frames + (0 if self.continues is None else self.continues.num_frames - 1)

    @property
    def duration_s(self) -> float:
        """Length of the finished clip in seconds."""
        return self.total_frames / self.fps

    @property
    def input_keys(self) -> tuple[str, ...]:
        """The keys of all pictures and clips that it is made from."""
        continued = None if self.continues is None else self.continues.clip
        keys = (self.first_frame, self.last_frame, self.video, continued)
        return tuple(key for key in keys if key is not None)


def steps_of(num_inference_steps: int, strength: float) -> int:
    """Return how many steps are left of a schedule that begins at `strength` of the noise."""
    return min(int(num_inference_steps * strength), num_inference_steps)
