"""One clip on its way to its files, beside the device: decoded frames go in, stored files come out."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass

from vitascope.card import ModelCard
from vitascope.media.arrays import Pixels, Samples
from vitascope.media.artifacts import Artifacts
from vitascope.media.clips import clip_chunks, joined
from vitascope.media.provenance import describe
from vitascope.media.sound import to_wav
from vitascope.media.stills import Stills
from vitascope.media.video import AudioFormat, VideoWriter
from vitascope.models.family import Chunk
from vitascope.request import GenerationRequest
from vitascope.wire import StoredFile

MEDIA_TYPE = "video/mp4"
BESIDE = {
    "thumbnail": ("webp", "image/webp"),
    "spritesheet": ("jpg", "image/jpeg"),
    "audio": ("wav", "audio/wav"),
}


class Abandoned(Exception):
    """The clip is not wanted any more; nothing of it was kept."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What a file says of itself."""

    request: GenerationRequest
    card: ModelCard


@dataclass(frozen=True, slots=True)
class Sound:
    """All sound of a clip: (channels, samples)."""

    samples: Samples
    sample_rate: int


class Recording:
    """Encodes in one of `threads` from the first chunk on; meanwhile frames wait in memory."""

    def __init__(self, clip: Clip, artifacts: Artifacts, threads: Executor) -> None:
        self._clip = clip
        self._artifacts = artifacts
        self._threads = threads
        self._chunks: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()
        self._file: Future[tuple[StoredFile, ...]] | None = None
        self._abandoned = False
        self._waiting_bytes = 0
        self._lock = threading.Lock()

    @property
    def waiting_bytes(self) -> int:
        """The size of the frames that wait to be encoded; those of a clip that failed wait for nothing."""
        return 0 if self._file is not None and self._file.done() else self._waiting_bytes

    def add(self, chunk: Chunk) -> None:
        """Take the next frames in; returns at once."""
        self._count(chunk.frames.nbytes)
        self._chunks.put(chunk)
        self._begin()

    def end(self) -> Future[tuple[StoredFile, ...]]:
        """Say that all frames are there; the future is done once all files are synced and renamed."""
        self._chunks.put(None)
        return self._begin()

    def abandon(self) -> None:
        """Drop the clip; what `end` promised fails with `Abandoned` unless all was encoded already."""
        self._abandoned = True
        self._chunks.put(None)

    def _count(self, num_bytes: int) -> None:
        with self._lock:
            self._waiting_bytes += num_bytes

    def _begin(self) -> Future[tuple[StoredFile, ...]]:
        if self._file is None:
            self._file = self._threads.submit(self._record)
        return self._file

    def _arriving(self) -> Iterator[Chunk]:
        """Yield the chunks as they come. Raises `Abandoned` once the clip is not wanted any more."""
        while (chunk := self._chunks.get()) is not None:
            self._count(-chunk.frames.nbytes)
            yield chunk
        if self._abandoned:
            raise Abandoned

    def _record(self) -> tuple[StoredFile, ...]:
        with ExitStack() as undo:
            stills = Stills(self._clip.request.total_frames)
            video, sound = self._encode(stills)
            files = [video]
            undo.callback(self._artifacts.delete, video.key)
            beside = {"thumbnail": stills.thumbnail(), "spritesheet": stills.spritesheet()}
            if sound is not None:
                beside["audio"] = to_wav(sound.samples, sound.sample_rate)
            for variant, data in beside.items():
                files.append(self._keep(variant, data))
                undo.callback(self._artifacts.delete, files[-1].key)
            undo.pop_all()  # all are there
        return tuple(files)

    def _encode(self, stills: Stills) -> tuple[StoredFile, Sound | None]:
        """Write the video, and show every frame to `stills`; return the sound too, if there is any."""
        request = self._clip.request
        with self._artifacts.new_file("mp4") as pending:
            chunks: Iterable[Chunk] = self._arriving()
            sound = None
            if self._clip.card.makes_sound:  # a file announces it first, and a model gives it last
                chunks = list(chunks)
                sound = _sound(chunks[-1])
            with VideoWriter(
                pending.path,
                width=request.width,
                height=request.height,
                fps=request.fps,
                title=request.prompt,
                metadata=describe(request, self._clip.card),
                audio=None if sound is None else AudioFormat(sound.sample_rate, len(sound.samples)),
            ) as writer:
                for frames in self._shown(chunk.frames for chunk in chunks):
                    writer.write(frames)
                    stills.write(frames)
                if sound is not None:
                    writer.write_audio(sound.samples)
            stored = pending.commit()
        video = StoredFile(
            variant="video",
            key=stored.key,
            media_type=MEDIA_TYPE,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
        )
        return video, sound

    def _shown(self, made: Iterable[Pixels]) -> Iterable[Pixels]:
        """Return all frames of the file: those of the clip that it continues come first."""
        continues = self._clip.request.continues
        return made if continues is None else joined(clip_chunks(self._artifacts, continues.clip), made)

    def _keep(self, variant: str, data: bytes) -> StoredFile:
        suffix, media_type = BESIDE[variant]
        return StoredFile(
            variant=variant,
            key=self._artifacts.put(data, suffix),
            media_type=media_type,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )


def _sound(last: Chunk) -> Sound | None:
    return None if last.audio is None or last.sample_rate is None else Sound(last.audio, last.sample_rate)
