"""A toy family of a few numbers, fast enough to run thousands of steps, on the real engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from vitascope.card import Defaults, ModelCard, Rules
from vitascope.media.arrays import Picture
from vitascope.models.adapters import Adapters
from vitascope.models.family import Chunk, Media, Sample
from vitascope.request import GenerationRequest
from vitascope.sampling.trajectory import Streams, Trajectory

PATIENCE_S = 600.0  # a net for what hangs

CARD = ModelCard(
    name="toy", family="toy", tasks=("t2v", "i2v"), identity="toy",
    defaults=Defaults(height=16, width=16, num_frames=5, fps=8.0, num_inference_steps=4, guidance_scale=1.0),
    rules=Rules(size_multiple=16, frame_stride=4, max_pixels=4096, max_frames=9),
)  # fmt: skip


class Halving:
    """A solver whose every step depends on its history."""

    def __init__(self, num_steps: int) -> None:
        self.timesteps = torch.arange(num_steps, 0, -1)
        self._last = torch.zeros(())

    def step(self, prediction: torch.Tensor, index: int, latents: torch.Tensor) -> torch.Tensor:
        latents = latents + 0.5 * prediction - 0.25 * self._last
        self._last = prediction
        return latents

    def estimate(self, prediction: torch.Tensor, index: int, latents: torch.Tensor) -> torch.Tensor:
        return latents + prediction

    def state(self) -> dict[str, torch.Tensor]:
        return {"last": self._last}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self._last = state["last"]


@dataclass
class ToyFamily:
    """Makes gray clips whose level depends on every step. `before_step` runs before each prediction."""

    card: ModelCard = CARD
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    before_step: Any = None
    before_decode: Any = None
    previews: list[int] = field(default_factory=list)
    adapters: Adapters = field(default_factory=lambda: Adapters([]))

    def encode(self, request: GenerationRequest, media: Media) -> float:
        return float(len(request.prompt))

    def unread(self, request: GenerationRequest) -> tuple[str, ...]:
        return (f"Only the start of {request.prompt!r} is read.",) if len(request.prompt) > 99 else ()

    def begin(
        self, request: GenerationRequest, conditioning: float, generator: torch.Generator
    ) -> Trajectory:
        latents = {"video": torch.rand(1, 1, 1, 1, 1, generator=generator)}
        return Trajectory(latents, {"video": Halving(request.num_steps)})

    def batch_key(self, sample: Sample) -> int:
        return 0

    def predict(self, samples: list[Sample]) -> list[Streams]:
        if self.before_step is not None:
            for sample in samples:
                self.before_step(sample)
        return [{"video": torch.sin(3 * s.trajectory.latents["video"])} for s in samples]

    def finish(self, sample: Sample) -> torch.Tensor:
        return sample.trajectory.latents["video"]

    def decode(self, sample: Sample) -> Iterator[Chunk]:
        request = sample.request
        level = int(sample.trajectory.latents["video"].abs().item() * 1e4) % 256
        for frame in range(request.num_frames):
            if self.before_decode is not None:
                self.before_decode(sample)
            yield Chunk(np.full((1, request.height, request.width, 3), (level + frame) % 256, np.uint8))

    def preview(self, sample: Sample) -> Picture:
        self.previews.append(sample.trajectory.step)
        return np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def family():
    return ToyFamily()


@pytest.fixture
def make_request():
    def make(**changes: Any) -> GenerationRequest:
        values = {
            "model": "toy", "prompt": "p", "negative_prompt": "", "height": 16, "width": 16, "num_frames": 5,
            "fps": 8.0, "num_inference_steps": 4, "guidance_scale": 1.0, "seed": 0,
        }  # fmt: skip
        return GenerationRequest(**(values | changes))

    return make


class Gate:
    """A place where a thread waits until the test lets it pass."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def wait_reached(self) -> None:
        """Return once a thread waits here."""
        assert self.reached.wait(PATIENCE_S)

    def __call__(self, *_: Any) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE_S)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.opened.set()
