from __future__ import annotations

import wave
from io import BytesIO

import numpy as np
import pytest

from vitascope.media.sound import to_wav


@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_holds_every_sample_of_every_channel(channels):
    samples = np.linspace(-1, 1, channels * 1000, dtype=np.float32).reshape(channels, 1000)
    with wave.open(BytesIO(to_wav(samples, 24_000))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (channels, 24_000, 1000)
        levels = np.frombuffer(file.readframes(1000), "<i2").reshape(1000, channels).T
    assert np.abs(levels / 32767 - samples).max() <= 0.5 / 32767 + 1e-7


def test_what_is_too_loud_stays_at_the_loudest():
    data = to_wav(np.array([[2.0, -2.0]], np.float32), 8000)
    assert np.frombuffer(data[-4:], "<i2").tolist() == [32767, -32767]
