from __future__ import annotations

import numpy as np

from tiny_clips import moving
from vitascope.media.lossless import SUFFIX, LosslessWriter, clip_key, read_lossless


def noise(num_frames=20, height=34, width=50):
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def write(path, frames):
    with LosslessWriter(path, width=frames.shape[2], height=frames.shape[1]) as writer:
        writer.write(frames)
    return writer.sha256


def test_the_same_bytes_come_out_as_went_in(tmp_path):
    write(tmp_path / "clip", noise())
    with (tmp_path / "clip").open("rb") as file:
        chunks = list(read_lossless(file))
    assert [len(chunk) for chunk in chunks] == [16, 4]
    assert (np.concatenate(chunks) == noise()).all()


def test_a_clip_is_named_by_its_frames_and_its_size(tmp_path):
    assert f"{write(tmp_path / 'clip', moving())}.{SUFFIX}" == clip_key(moving())
    other = moving().reshape(9, 48, 32, 3)  # the same bytes
    assert len({clip_key(moving()), clip_key(other), clip_key(moving(8)), clip_key(255 - moving())}) == 4


def test_a_clip_of_flat_colour_takes_little_room(tmp_path):
    write(tmp_path / "clip", moving(64, 64, 64))
    assert (tmp_path / "clip").stat().st_size < moving(64, 64, 64).nbytes / 20
