"""Small clips as bytes, as people upload them, and some that nobody should."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np

FORMATS = {"mp4": "libx264", "webm": "libvpx-vp9", "matroska": "libx264", "gif": "gif", "mov": "mpeg4"}


def moving(num_frames: int = 9, width: int = 48, height: int = 32) -> np.ndarray:
    """A white bar that moves right over blue, (frames, height, width, 3)."""
    frames = np.full((num_frames, height, width, 3), (20, 40, 160), np.uint8)
    for t in range(num_frames):
        frames[t, :, 2 * t : 2 * t + 8] = 240
    return frames


def encoded(
    frames: np.ndarray | None = None,
    *,
    kind: str = "mp4",
    codec: str = "",
    fps: Fraction | int = 8,
    **stream: Any,
) -> bytes:
    """Encode frames, closely to what they are; `stream` are attributes of the stream."""
    frames = moving() if frames is None else frames
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        added = container.add_stream(codec or FORMATS[kind], rate=fps)
        added.height, added.width = frames.shape[1:3]
        added.pix_fmt = "rgb8" if kind == "gif" else "yuv444p" if added.name == "libx264" else "yuv420p"
        added.options = {"crf": "1", "qmin": "1", "qmax": "4", "deadline": "realtime", "cpu-used": "8"}
        for name, value in stream.items():
            setattr(added, name, value)
        for frame in frames:
            container.mux(added.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(added.encode(None))
    return buffer.getvalue()


def at_times(frames: np.ndarray, times_ms: list[int]) -> bytes:
    """Encode frames that are shown at these times."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=1000, height=frames.shape[1], width=frames.shape[2])
        stream.pix_fmt, stream.options = "yuv444p", {"crf": "1"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame, time in zip(frames, times_ms, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def sound() -> bytes:
    """An MP4 without pictures."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def turned(clip: bytes) -> bytes:
    """The same MP4, to be shown turned by a quarter clockwise, as telephones write them."""
    one = (1 << 16).to_bytes(4, "big")
    minus, zero, w = (-(1 << 16)).to_bytes(4, "big", signed=True), bytes(4), (1 << 30).to_bytes(4, "big")
    upright = one + zero * 3 + one + zero * 3 + w
    at = clip.index(upright, clip.index(b"tkhd"))
    quarter = zero + one + zero + minus + zero * 4 + w
    return clip[:at] + quarter + clip[at + len(upright) :]
