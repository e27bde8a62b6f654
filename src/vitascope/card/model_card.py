"""What one loaded model can do, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitascope.request import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The checkpoint's native values; a None is a setting the model does not have.

    `guidance_scale_with_frames` takes the place of `guidance_scale` where a first or last frame is given;
    None where the model wants the same.
    """

    height: int
    width: int
    num_frames: int
    fps: float
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_with_frames: float | None = None
    guidance_scale_2: float | None = None
    boundary_ratio: float | None = None
    true_cfg_scale: float | None = None
    flow_shift: float | None = None
    negative_prompt: str = ""
    sample_solver: str | None = None
    max_sequence_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Limits of one model: sizes are multiples of `size_multiple`, lengths `frame_stride` * k + 1.

    `max_pixels` bounds height * width, `max_frames` the length; `solvers` lists the `sample_solver` names.
    `max_height` and `max_width` bound a side where positions end there; `sizes` lists the only
    (height, width) pairs of a model that does no others. `attention_cache_token_bytes` is the memory that an
    attention cache takes for each token (`size_multiple` squared pixels of one latent frame) and each of the
    two passes of guidance; None where the family has no such cache.
    """

    size_multiple: int
    frame_stride: int
    max_pixels: int
    max_frames: int
    min_steps: int = 1  # equal to max_steps where a model is made for one number of steps
    max_steps: int = 200
    solvers: tuple[str, ...] = ()
    min_sequence_length: int = 1  # what the tokenizer adds of its own, and a token of the prompt
    max_sequence_length: int | None = None
    max_height: int | None = None
    max_width: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    attention_cache_token_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptGuide:
    """What a small model's vocabulary is, so that a prompt outside it can be answered with advice."""

    known_words: tuple[str, ...]
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model. `identity` hashes its weights (empty if they were not read).

    `components` maps each part to its size in bytes; `makes_sound` says that every clip comes with sound.
    """

    name: str
    family: str
    tasks: tuple[Task, ...]
    defaults: Defaults
    rules: Rules
    identity: str
    components: dict[str, int] = field(default_factory=dict)
    prompt_guide: PromptGuide | None = None
    makes_sound: bool = False
    adapters: tuple[str, ...] = ()  # the LoRAs that a request may choose
