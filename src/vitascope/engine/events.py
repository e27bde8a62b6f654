"""What the engine reports of its generations, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from vitascope.errors import VitascopeError
from vitascope.sampling.trajectory import Streams


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds on the device by stage (encode, denoise, decode), and the peak of memory in bytes.

    The peak is the device's on an accelerator, the whole process's on the CPU; generations in flight together
    share it.
    """

    stage_s: dict[str, float]
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Warned:
    """The generation was encoded, but not all of its prompts is read; told before anything further of it."""

    job_id: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advanced:
    """One quantum of work was done: `step` of `num_steps` denoising steps are behind, `stage` comes next.

    Steps are counted through all outputs.
    """

    job_id: str
    stage: str
    step: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class Completed:
    """All frames of one output went to the sink; the `last` one ends the job.

    `latents` are the final ones, as the reference would return them; `cost` is that of all outputs so far.
    """

    job_id: str
    cost: Cost
    latents: Tensor | Streams = field(repr=False)
    output: int = 0
    last: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """The generation ended with an error that leaves the engine usable."""

    job_id: str
    error: VitascopeError


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The device is free of this job."""

    job_id: str


Event = Warned | Advanced | Completed | Failed | Cancelled
