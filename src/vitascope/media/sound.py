"""The sound of a clip by itself: a WAV of 16-bit samples, without the losses of the MP4's."""

from __future__ import annotations

import wave
from io import BytesIO

from vitascope.media.arrays import Samples

_LOUDEST = 2**15 - 1


def to_wav(samples: Samples, sample_rate: int) -> bytes:
    """Encode a WAV; the same samples give the same bytes."""
    levels = (samples.T.clip(-1, 1) * _LOUDEST).round().astype("<i2")  # (samples, channels), as files have it
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(levels.itemsize)
        file.setframerate(sample_rate)
        file.writeframes(levels.tobytes())
    return buffer.getvalue()
