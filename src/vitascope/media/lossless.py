"""Clips without loss: how the source clips of requests are kept, the same RGB bytes out as went in.

A clip is named by the hash of its frames, not of its file, so that every build of FFmpeg gives it one name.
Only files that were written here are ever read here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
import numpy as np

from vitascope.media.arrays import Pixels

SUFFIX = "lossless"
CHUNK_FRAMES = 16
_RATE = Fraction(16)  # players may want one; how fast a clip runs is the request's to say


class LosslessWriter:
    """Write one clip; used as a context, the file is complete when it ends well."""

    def __init__(self, path: Path, *, width: int, height: int) -> None:
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream("libx264rgb", rate=_RATE, width=width, height=height)
        self._stream.pix_fmt = "rgb24"
        self._stream.options = {"qp": "0", "preset": "ultrafast"}
        self._hash = ClipHash(width, height)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def write(self, frames: Iterable[Pixels]) -> None:
        """Add frames, each (height, width, 3), RGB."""
        for frame in frames:
            pixels = np.ascontiguousarray(frame)
            self._hash.update(pixels)
            self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))

    @property
    def sha256(self) -> str:
        """The clip's name."""
        return self._hash.hexdigest()


class ClipHash:
    """The hash that names a clip of this size, taken frame by frame."""

    def __init__(self, width: int, height: int) -> None:
        self._hash = hashlib.sha256(f"{width}x{height}\n".encode())

    def update(self, frame: Pixels) -> None:
        """Take in the next frame or frames."""
        self._hash.update(np.ascontiguousarray(frame).data)

    def hexdigest(self) -> str:
        """Return the name."""
        return self._hash.hexdigest()


def read_lossless(file: BinaryIO) -> Iterator[Pixels]:
    """Yield a kept clip's frames, `CHUNK_FRAMES` at a time."""
    with av.open(file, "r", format="mp4") as container:
        chunk: list[Pixels] = []
        for frame in container.decode(video=0):
            chunk.append(frame.to_ndarray(format="rgb24"))
            if len(chunk) == CHUNK_FRAMES:
                yield np.stack(chunk)
                chunk.clear()
        if chunk:
            yield np.stack(chunk)


def clip_key(frames: Pixels) -> str:
    """Return the key under which a clip of these frames is kept."""
    digest = ClipHash(frames.shape[2], frames.shape[1])
    digest.update(frames)
    return f"{digest.hexdigest()}.{SUFFIX}"
