"""One generation in flight: its stage, its sample, its state as bytes, and what it cost so far."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from vitascope.errors import GenerationFailed
from vitascope.models.family import Chunk, Family, Media, Sample
from vitascope.request import GenerationRequest
from vitascope.sampling.attention_cache import Action, plan_for
from vitascope.sampling.trajectory import Streams, Trajectory, denoise

Sink = Callable[[Chunk], None]

_FORMAT = "vitascope-state-1"


class Stage(StrEnum):
    """What a generation needs next."""

    ENCODE = "encode"
    DENOISE = "denoise"
    DECODE = "decode"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole generation at a step boundary: safetensors bytes, and how many steps are in them."""

    state: bytes = field(repr=False)
    step: int


class Generation:
    """One clip on its way. Each method does one quantum of work and leaves the next stage in `stage`."""

    def __init__(
        self,
        job_id: str,
        request: GenerationRequest,
        media: Media,
        *,
        sink: Sink | None = None,
        resume: bytes | None = None,
    ) -> None:
        self.job_id = job_id
        self.request = request
        self.stage = Stage.ENCODE
        self.stage_s: dict[str, float] = {}
        self._media = media
        self._sink = sink
        self._resume = resume
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
    def step(self) -> int:
        """Denoising steps that are done."""
        return 0 if self._sample is None else self._sample.trajectory.step

    def encode(self, family: Family) -> None:
        """Make the conditioning and the first latents, or those of the saved state."""
        conditioning = family.encode(self.request, self._media)
        generator = torch.Generator("cpu").manual_seed(self.request.seed)
        trajectory = family.begin(self.request, conditioning, generator)
        if self._resume is not None:
            trajectory.restore(_opened(self._resume, self.request))
            self._resume = None
        self._sample = Sample(self.request, conditioning, trajectory)
        self._loop = denoise(trajectory)
        self._mark()
        self.stage = Stage.DECODE if next(self._loop, None) is None else Stage.DENOISE

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

    def save(self) -> Snapshot | None:
        """Return the whole state; None before the first step, where starting anew is as good.

        Between steps that share their attention it is that of the step they share: what is shared is too much
        to save, and computed again it is the same.
        """
        step, state = self._boundary or (self.step, self.sample.trajectory.state() if self.step else {})
        if step == 0:
            return None
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
        header = {"format": _FORMAT, "request": _fingerprint(self.request)}
        return Snapshot(save(tensors, metadata=header), step)

    def _mark(self) -> None:
        """Hold on to this boundary's state for as long as steps follow that need what its step computes."""
        if self.request.attention_cache is None:
            return
        actions = plan_for(self.request.attention_cache, self.request.num_inference_steps)
        action = actions[self.step] if self.step < len(actions) else Action.COMPUTE
        if action is Action.STORE:
            self._boundary = self.step, self.sample.trajectory.state()
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
