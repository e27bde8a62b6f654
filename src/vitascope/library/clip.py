"""A finished clip in memory, and the files that are written of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from vitascope.card import ModelCard
from vitascope.engine.events import Cost
from vitascope.errors import InvalidRequest
from vitascope.media.arrays import Pixels, Samples
from vitascope.media.provenance import describe
from vitascope.media.sound import to_wav
from vitascope.media.video import AudioFormat, VideoWriter
from vitascope.request import GenerationRequest
from vitascope.sampling.trajectory import Streams


@dataclass(frozen=True, slots=True)
class Clip:
    """A finished clip. `frames` are uint8 (T, H, W, 3), RGB; `latents` the final ones, before decoding.

    `audio` is float32 (channels, samples) in -1..1 at `sample_rate`, for models that make sound.
    """

    frames: Pixels = field(repr=False)
    request: GenerationRequest
    card: ModelCard = field(repr=False)
    latents: Tensor | Streams = field(repr=False)
    stats: Cost
    warnings: tuple[str, ...] = ()
    audio: Samples | None = field(default=None, repr=False)
    sample_rate: int | None = None

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.request.fps

    @property
    def seed(self) -> int:
        """The seed that makes this clip again."""
        return self.request.seed

    def save(self, path: str | Path) -> Path:
        """Write an MP4 (H.264) that carries the request and the model's identity; return its path."""
        path = Path(path).absolute()  # FFmpeg takes what stands before a colon for a protocol
        height, width = self.frames.shape[1:3]
        with VideoWriter(
            path,
            width=width,
            height=height,
            fps=self.fps,
            title=self.request.prompt,
            metadata=describe(self.request, self.card),
            audio=self._audio_format(),
        ) as writer:
            writer.write(self.frames)
            if self.audio is not None:
                writer.write_audio(self.audio)
        return path

    def save_audio(self, path: str | Path) -> Path:
        """Write the sound as WAV and return its path. Raises `InvalidRequest` for a clip without sound."""
        if self.audio is None or self.sample_rate is None:
            raise InvalidRequest(f"{self.card.name} makes no sound; there is none to write.")
        path = Path(path)
        path.write_bytes(to_wav(self.audio, self.sample_rate))
        return path

    def _audio_format(self) -> AudioFormat | None:
        if self.audio is None or self.sample_rate is None:
            return None
        return AudioFormat(self.sample_rate, self.audio.shape[0])
