"""One generation in flight: its stage, its outputs in turn, its state as bytes, and what it cost so far."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from vitascope.errors import GenerationFailed
from vitascope.models.family import Chunk, Family, Media, Sample
from vitascope.request import GenerationRequest
from vitascope.sampling.attention_cache import Action, plan
from vitascope.sampling.trajectory import Streams, Trajectory, denoise

Sink = Callable[[Chunk], None]
Crowded = Callable[[], bool]

_FORMAT = "vitascope-state-1"


class Stage(StrEnum):
    """What a generation needs next."""

    ENCODE = "encode"
    DENOISE = "denoise"
    DECODE = "decode"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole output at a step boundary: safetensors bytes, and the steps done up to there, all outputs'."""

    state: bytes = field(repr=False)
    step: int


class Generation:
    """A request's clips on their way. Each method does one quantum of work and says in `stage` what is next.

    `output` is the one that is being made, the first of them from the state `resume` if there is one.
    """

    def __init__(
        self,
        job_id: str,
        request: GenerationRequest,
        media: Media,
        *,
        output: int = 0,
        sink: Sink | None = None,
        crowded: Crowded | None = None,
        resume: bytes | None = None,
    ) -> None:
        self.job_id = job_id
        self.request = request
        self.output = output
        self.stage = Stage.ENCODE
        self.stage_s: dict[str, float] = {}
        self._warnings: tuple[str, ...] = ()
        self._media = media
        self._sink = sink
        self._crowded = crowded
        self._resume = resume
        self._conditioning: Any = None
        self._sample: Sample | None = None
        self._loop: Generator[Trajectory, Streams, None] | None = None
        self._chunks: Iterator[Chunk] | None = None
        self._boundary: tuple[int, dict[str, torch.Tensor]] | None = None

    @property
    def sample(self) -> Sample:
        """The sample; there is one once the encode stage is over."""
        assert self._sample is not None  # callers look at `stage` first
        return self._sample

    @property
    def held_up(self) -> bool:
        """Whether its next frames have to wait until those before them are taken."""
        return self.stage is Stage.DECODE and self._crowded is not None and self._crowded()

    @property
    def step(self) -> int:
        """Denoising steps that are done, counted through all outputs."""
        return self.output * self.request.num_steps + self.output_step

    @property
    def output_step(self) -> int:
        """Denoising steps of the current output that are done."""
        return 0 if self._sample is None else self._sample.trajectory.step

    def encode(self, family: Family) -> None:
        """Make the conditioning, which outputs share, and the first latents, or those of a saved state."""
        request = self.request.output(self.output)
        if self._conditioning is None:
            self._conditioning = family.encode(request, self._media)
            self._warnings = family.unread(request)
        generator = torch.Generator("cpu").manual_seed(request.seed)
        trajectory = family.begin(request, self._conditioning, generator)
        if self._resume is not None:
            trajectory.restore(_opened(self._resume, request))
            self._resume = None
        self._sample = Sample(request, self._conditioning, trajectory)
        self._loop = denoise(trajectory)
        self._mark()
        self.stage = Stage.DECODE if next(self._loop, None) is None else Stage.DENOISE

    def take_warnings(self) -> tuple[str, ...]:
        """Return what the encoding warned of, once."""
        taken, self._warnings = self._warnings, ()
        return taken

    def advance(self, prediction: Streams) -> None:
        """Take one denoising step with the model's prediction."""
        assert self._loop is not None
        try:
            self._loop.send(prediction)
        except StopIteration:
            self.stage = Stage.DECODE
        self._mark()

    def decode(self, family: Family) -> None:
        """Decode one chunk and hand it to the sink."""
        if self._chunks is None:
            self._chunks = family.decode(self.sample)
        chunk = next(self._chunks, None)
        if chunk is None:
            self.stage = Stage.DONE
        elif self._sink is not None:
            self._sink(chunk)

    def next_output(self) -> bool:
        """Turn to the next output; return whether there is one."""
        if self.output + 1 == self.request.num_outputs:
            return False
        self.output += 1
        self._sample = self._loop = self._chunks = self._boundary = None
        self.stage = Stage.ENCODE
        return True

    def save(self) -> Snapshot | None:
        """Return the output's whole state; None before its first step, where starting anew is as good.

        Between steps that share their attention it is that of the step they share: what is shared is too much
        to save, and computed again it is the same.
        """
        own = self.output_step
        step, state = self._boundary or (own, self.sample.trajectory.state() if own else {})
        if step == 0:
            return None
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
        header = {"format": _FORMAT, "request": _fingerprint(self.sample.request)}
        return Snapshot(save(tensors, metadata=header), self.step - own + step)

    def _mark(self) -> None:
        """Hold on to this boundary's state for as long as steps follow that need what its step computes."""
        if self.request.attention_cache is None:
            return
        actions = plan(self.request.attention_cache, self.request.num_steps)
        step = self.output_step
        action = actions[step] if step < len(actions) else Action.COMPUTE
        if action is Action.STORE:
            self._boundary = step, self.sample.trajectory.state()
        elif action is Action.COMPUTE:
            self._boundary = None


def _opened(state: bytes, request: GenerationRequest) -> dict[str, torch.Tensor]:
    """Read a saved state.

    Raises:
        GenerationFailed: it is damaged, of another format, or of another request.

    """
    try:
        header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])["__metadata__"]
        tensors: dict[str, torch.Tensor] = load(state)
    except (SafetensorError, ValueError, KeyError) as error:
        raise GenerationFailed("The saved state is damaged; the job has to start anew.") from error
    if header != {"format": _FORMAT, "request": _fingerprint(request)}:
        raise GenerationFailed(
            "The saved state belongs to another request or version; the job has to start anew."
        )
    return tensors


def _fingerprint(request: GenerationRequest) -> str:
    return hashlib.sha256(json.dumps(asdict(request), sort_keys=True).encode()).hexdigest()
