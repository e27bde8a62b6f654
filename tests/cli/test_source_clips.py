"""Clips made anew and clips that go on, from the command line."""

from __future__ import annotations

import numpy as np
import pytest

from tiny_clips import encoded, moving
from vitascope.media.provenance import read_provenance
from vitascope.media.video import read_video

PROMPT = "a red circle moving right on a blue background"
QUICK = ["--prompt", PROMPT, "--num-threads", "1", "--num-inference-steps", "2"]


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(encoded(moving(9, 64, 64)))
    return path


def test_a_clip_is_made_anew_and_again_to_the_bit(vitascope, clip):
    made = [*QUICK, "--video-path", clip, "--strength", 0.5, "--seed", 3, "--output-file-path", "b.mp4"]
    ran = vitascope("generate", *made)
    assert ran.status == 0, ran.err
    assert ran.out.splitlines()[1] == "  9 frames of 64x64 at 8 fps (1.12 s), seed 3"
    request = read_provenance(clip.with_name("b.mp4")).request
    assert (request.task, request.strength, request.num_steps) == ("v2v", 0.5, 1)
    again = vitascope("reproduce", "b.mp4", "--video-path", clip, "--num-threads", 1)
    assert (again.status, again.out) == (0, "identical: all 9 frames are the same to the bit\n")
    assert "made from another; pass --video-path" in vitascope("reproduce", "b.mp4").message


def test_a_clip_goes_on_and_again_to_the_bit(vitascope, clip):
    made = ["--video-path", clip, "--extend", "--seconds", 1, "--output-file-path", "b.mp4"]
    ran = vitascope("generate", *QUICK, *made)
    assert ran.status == 0, ran.err
    assert ran.out.splitlines()[1].startswith("  17 frames of 64x64 at 8 fps (2.12 s)")
    frames = read_video(clip.with_name("b.mp4")).frames
    assert np.abs(frames[:9].astype(int) - moving(9, 64, 64)).mean() < 3
    again = vitascope("reproduce", "b.mp4", "--video-path", clip, "--num-threads", 1)
    assert (again.status, again.out) == (0, "identical: all 17 frames are the same to the bit\n")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--extend"], "--extend needs --video-path"),
        (["--video-path", "absent.mp4"], "There is no clip 'absent.mp4'"),
        (["--video-path", "a.mp4", "--image-path", "a.png"], "takes no pictures beside it"),
        (["--video-path", "a.mp4", "--num-frames", "17"], "The clip has 9 frames at 8 fps, and 17 are asked"),
        (["--video-path", "a.mp4", "--width", "96"], "set resize_mode to 'crop' or 'pad'"),
        (["--video-path", "bad.mp4"], "damaged"),
        (["--strength", "0.5"], "strength says how much of a clip is made anew"),
    ],
)
def test_what_does_not_do_is_refused_before_a_model_is_loaded(vitascope, clip, flags, says):
    clip.with_name("a.png").write_bytes(b"")
    clip.with_name("bad.mp4").write_bytes(clip.read_bytes()[:600])
    ran = vitascope("generate", *QUICK, *flags)
    assert ran.status != 0
    assert says in ran.message
