from __future__ import annotations

import numpy as np
import pytest

from tiny_clips import encoded, moving
from vitascope.errors import InvalidMedia, NotFound
from vitascope.media.artifacts import FolderArtifacts
from vitascope.media.clip_decoding import Fit, Limits
from vitascope.media.clips import DECODER, Clips, joined, load_clip
from vitascope.media.inputs import load_picture
from vitascope.media.lossless import clip_key

WHOLE = Fit(width=48, height=32, num_frames=9)


@pytest.fixture
def clips(tmp_path):
    return Clips(FolderArtifacts(tmp_path), Limits(max_pixels=10_000, max_frames=50))


def test_an_upload_and_a_stored_file_are_kept_alike_and_once(clips):
    stored = clips.artifacts.put(encoded(), "mp4")
    assert clips.measure(stored) == clips.measure(encoded())
    key = clips.keep(encoded(), WHOLE, param="video")
    assert clips.keep(stored, WHOLE) == key
    frames = load_clip(clips.artifacts, key)
    assert (frames.shape, clip_key(frames)) == ((9, 32, 48, 3), key)
    assert sorted(clips.artifacts.keys()) == sorted([stored, key])
    assert not list((clips.artifacts.root / "pending").iterdir())
    picture = clips.keep_last_frame(key)
    assert (load_picture(clips.artifacts, picture) == frames[-1]).all()


def test_a_refusal_names_the_field_and_leaves_no_file(clips):
    with pytest.raises(InvalidMedia, match="breaks off") as caught:
        clips.keep(encoded(moving(5)), WHOLE, param="video")
    assert caught.value.param == "video"
    assert list(clips.artifacts.keys()) == list((clips.artifacts.root / "pending").iterdir()) == []


def test_a_stored_file_that_is_gone_is_not_found(clips):
    with pytest.raises(NotFound):
        clips.measure("0" * 32 + ".mp4")


def test_a_decoder_that_takes_too_long_is_ended(clips):
    slow = Clips(clips.artifacts, clips.limits, timeout_s=0.01)
    with pytest.raises(InvalidMedia, match="takes too much"):
        slow.measure(encoded())


@pytest.mark.parametrize("end", ["os.abort()", "sys.exit(3)", "print('{}}')"])
def test_a_decoder_that_ends_badly_is_a_refusal_and_in_the_log(clips, monkeypatch, caplog, end):
    command = (DECODER[0], "-c", f"import os, sys, resource; resource.setrlimit(4, (0, 0)); {end}")
    monkeypatch.setattr("vitascope.media.clips.DECODER", command)
    with pytest.raises(InvalidMedia, match="takes too much"):
        Clips(clips.artifacts, clips.limits).measure(encoded())
    assert "decoder gave no answer" in caplog.text


def test_the_joint_of_two_clips_is_there_once():
    clip, made = moving(5), moving(9)[4:]
    for chunks in ([made], [made[:1], made[1:]], [made[:3], made[3:]]):
        assert (np.concatenate(list(joined([clip[:2], clip[2:]], chunks))) == moving(9)).all()
