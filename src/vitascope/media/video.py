"""Frames to MP4 as they come, and back: H.264 4:2:0 in BT.709, playable while it downloads.

With one build of FFmpeg the same frames give the same bytes, whatever the machine. What the metadata says
is not known here (`provenance.py` knows), except that the hash of all frames is filled in at the end.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from vitascope.errors import InvalidMedia, InvalidRequest
from vitascope.media.arrays import Pixels, Samples

FRAMES_SHA256 = "frames_sha256"  # the metadata's name for the hash of all RGB bytes, in order
MAX_SIDE = 16_384  # what H.264 levels and players stop at

_NTSC = tuple(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120))
_SMALL_PIXELS = 256 * 256

# Measured on flat and soft moving shapes: area averaging keeps the most of colours at edges on the way to
# 4:2:0, and interpolated chroma on the way back.
_TO_YUV = Interpolation.AREA | Interpolation.ACCURATE_RND
_TO_RGB = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The sound that will be written with `write_audio`."""

    sample_rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a closed writer wrote."""

    num_frames: int
    frames_sha256: str


@dataclass(frozen=True, slots=True)
class Video:
    """A decoded clip: (frames, height, width, 3) RGB, frames a second, the container's text fields."""

    frames: Pixels
    fps: float
    metadata: dict[str, str]


class VideoWriter:
    """Write one MP4 in chunks of frames.

    Used as a context: the file is complete when the context ends well, and of no use when it ends with an
    exception (whoever owns the path removes it). `metadata` becomes JSON in the `comment` field, with
    `frames_sha256` added; `title` is what players show.

    Raises:
        InvalidRequest: a size that H.264 4:2:0 cannot hold.

    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        fps: float,
        title: str = "",
        metadata: Mapping[str, Any] | None = None,
        audio: AudioFormat | None = None,
    ) -> None:
        _check_size(width, height)
        self._path, self._shape = path, (height, width, 3)
        self._hash, self._num_frames = hashlib.sha256(), 0
        # FFmpeg takes the metadata when the file begins, but the hash is known when it ends: a random word
        # of the same length holds its place until then.
        self._placeholder = secrets.token_hex(32)
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        comment = json.dumps({**(metadata or {}), FRAMES_SHA256: self._placeholder})
        self._container.metadata.update(title=title.replace("\0", " "), comment=comment)
        self._video = self._add_video(width, height, frame_rate(fps))
        self._audio = self._add_audio(audio) if audio else None
        self._num_samples = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._container.close()

    def write(self, frames: Pixels) -> None:
        """Add frames: (frames, height, width, 3), RGB."""
        if frames.dtype != np.uint8 or frames.shape[1:] != self._shape:
            raise ValueError(f"frames are {frames.dtype} {frames.shape[1:]}, announced were {self._shape}")
        for frame in frames:
            pixels = np.ascontiguousarray(frame)
            self._hash.update(pixels.data)
            self._encode_picture(pixels)

    def write_audio(self, samples: Samples) -> None:
        """Add sound: (channels, samples) in -1..1, at the rate that was announced."""
        if self._audio is None:
            raise ValueError("no sound was announced")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples, dtype=np.float32), format="fltp", layout=self._audio.layout.name
        )
        frame.sample_rate, frame.pts = self._audio.rate, self._num_samples
        frame.time_base = Fraction(1, self._audio.rate)
        self._num_samples += samples.shape[1]
        self._container.mux(self._audio.encode(frame))

    def close(self) -> Written:
        """Finish the file and return what it holds; more calls return the same."""
        written = Written(self._num_frames, self._hash.hexdigest())
        if self._placeholder:
            self._flush()
            _replace_in_moov(self._path, self._placeholder.encode(), written.frames_sha256.encode())
            self._placeholder = ""
        return written

    def _flush(self) -> None:
        self._container.mux(self._video.encode(None))
        if self._audio is not None:
            self._container.mux(self._audio.encode(None))
        self._container.close()

    def _encode_picture(self, pixels: Pixels) -> None:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, interpolation=_TO_YUV
        )
        frame.pts, frame.time_base = self._num_frames, self._video.codec_context.time_base
        self._num_frames += 1
        self._container.mux(self._video.encode(frame))

    def _add_video(self, width: int, height: int, rate: Fraction) -> Any:
        stream = self._container.add_stream("libx264", rate=rate, width=width, height=height)
        stream.pix_fmt = "yuv420p"
        small = width * height <= _SMALL_PIXELS
        # Small flat clips cost nothing and show every artefact; big ones take a fast preset.
        quality = {"preset": "medium", "crf": "12"} if small else {"preset": "veryfast", "crf": "17"}
        # x264's macroblock tree reads memory that it never wrote: with it, equal frames gave different bytes
        # in different processes, at most sizes.
        stream.options = {**quality, "x264-params": "mbtree=0"}
        context = stream.codec_context
        context.time_base = 1 / rate
        context.thread_count = 1 if small else 4  # fixed: the bytes depend on it
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        return stream

    def _add_audio(self, audio: AudioFormat) -> Any:
        layout = {1: "mono", 2: "stereo"}[audio.channels]
        return self._container.add_stream("aac", rate=audio.sample_rate, layout=layout, bit_rate=192_000)


def frame_rate(fps: float) -> Fraction:
    """Return frames a second as the fraction a file holds; 23.976 and its like mean n * 1000 / 1001."""
    for rate in _NTSC:
        if abs(fps - float(rate)) < 0.005:
            return rate
    return Fraction(fps).limit_denominator(1001)


def hash_frames(frames: Pixels) -> str:
    """Return the SHA-256 of all RGB bytes, as a writer puts it in the metadata."""
    return hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """Return an MP4's text fields (`title`, `comment`, ...). Raises `InvalidMedia`."""
    with _opened(path) as container:
        return dict(container.metadata)


def read_video(path: Path) -> Video:
    """Decode a whole MP4. Raises `InvalidMedia`."""
    with _opened(path) as container:
        try:
            frames = [_to_rgb(frame) for frame in container.decode(video=0)]
        except av.FFmpegError:
            raise _unreadable() from None
        if not frames:
            raise _unreadable()
        rate = container.streams.video[0].average_rate
        return Video(np.stack(frames), float(rate), dict(container.metadata))


def _to_rgb(frame: av.VideoFrame) -> Pixels:
    rgb: Pixels = frame.reformat(
        format="rgb24", src_colorspace=Colorspace.ITU709, interpolation=_TO_RGB
    ).to_ndarray()
    return rgb


def _opened(path: Path) -> Any:
    try:
        container = av.open(str(path), "r", format="mp4")
    except (av.FFmpegError, OSError):
        raise _unreadable() from None
    if not container.streams.video:
        container.close()
        raise _unreadable()
    return container


def _unreadable() -> InvalidMedia:
    return InvalidMedia("This is not an MP4 clip that can be read.")


def _check_size(width: int, height: int) -> None:
    for name, value in (("width", width), ("height", height)):
        if value < 2 or value % 2 or value > MAX_SIDE:
            raise InvalidRequest(
                f"{name} is {value}; an MP4 clip needs an even number of pixels from 2 to {MAX_SIDE}.",
                param=name,
            )


def _replace_in_moov(path: Path, old: bytes, new: bytes) -> None:
    """Overwrite a word of the metadata with one of the same length."""
    with path.open("r+b") as file:
        start, size = next((at, n) for kind, at, n in _boxes(file) if kind == b"moov")
        file.seek(start)
        at = file.read(size).index(old)
        file.seek(start + at)
        file.write(new)


def _boxes(file: Any) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, size) of an MP4's top-level boxes."""
    start = 0
    while header := file.read(16):
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        size = int.from_bytes(header[8:16], "big") if size == 1 else size
        yield kind, start, size
        start += size
        file.seek(start)
