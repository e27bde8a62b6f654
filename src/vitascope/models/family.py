"""What every model family answers.

A family is asked a handful of questions and asks none. It adds the arithmetic of its loop to networks that
are diffusers' and transformers' own classes; its reference is the diffusers pipeline of the same name.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from vitascope.card import ModelCard
from vitascope.media.arrays import Picture, Pixels, Samples
from vitascope.models.adapters import Adapters
from vitascope.request import GenerationRequest
from vitascope.sampling.trajectory import Streams, Trajectory


@dataclass(frozen=True, slots=True)
class Media:
    """The pictures of a request, and the clip that it makes anew, decoded; None where it has none."""

    first_frame: Picture | None = None
    last_frame: Picture | None = None
    video: Pixels | None = None


@dataclass(slots=True)
class Sample:
    """One generation in flight: what was asked, its conditioning (the family's), its trajectory."""

    request: GenerationRequest
    conditioning: Any
    trajectory: Trajectory


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some decoded frames, in order; a model that makes sound gives all of it with the last chunk."""

    frames: Pixels
    audio: Samples | None = None
    sample_rate: int | None = None


class Family(Protocol):
    """One loaded checkpoint."""

    card: ModelCard
    device: torch.device
    adapters: Adapters

    def encode(self, request: GenerationRequest, media: Media) -> Any:
        """Turn prompt and pictures into the family's own conditioning; deterministic, kept for the job."""

    def unread(self, request: GenerationRequest) -> tuple[str, ...]:
        """Warn of what `encode` leaves out: whatever of the prompts the text encoder does not read.

        It counts with the model's own tokenizer and runs no network; see `prompts.unread`.
        """

    def begin(self, request: GenerationRequest, conditioning: Any, generator: Generator) -> Trajectory:
        """Draw the first latents, in the reference's order, and make fresh solvers."""

    def batch_key(self, sample: Sample) -> Hashable:
        """Return a key; samples with equal keys may share one `predict`."""

    def predict(self, samples: Sequence[Sample]) -> list[Streams]:
        """Return each sample's prediction for its current step, guidance included."""

    def finish(self, sample: Sample) -> Tensor | Streams:
        """Return the final latents as the reference's `output_type="latent"` would."""

    def decode(self, sample: Sample) -> Iterator[Chunk]:
        """Yield the clip's frames in chunks as the VAE makes them."""

    def decode_blank(self, num_frames: int, height: int, width: int) -> Iterator[Tensor]:
        """Run the decoder on latents without content, in the pieces of `decode`, for whoever measures it."""

    def preview(self, sample: Sample) -> Picture | None:
        """Return a small RGB picture of the clean estimate after the last step; None before the first.

        It costs a fraction of a step and is drawn only when asked for.
        """
