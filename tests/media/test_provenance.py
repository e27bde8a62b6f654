from __future__ import annotations

import numpy as np
import pytest

import vitascope
from vitascope.card import Defaults, ModelCard, Rules
from vitascope.errors import InvalidMedia
from vitascope.media.provenance import describe, read_provenance
from vitascope.media.video import VideoWriter, hash_frames
from vitascope.request import GenerationRequest

FRAMES = np.zeros((5, 32, 32, 3), np.uint8)
CARD = ModelCard(
    name="tiny",
    family="wan",
    tasks=("t2v",),
    defaults=Defaults(height=32, width=32, num_frames=5, fps=8, num_inference_steps=2, guidance_scale=1),
    rules=Rules(size_multiple=8, frame_stride=4, max_pixels=4096, max_frames=17),
    identity="0123abcd",
)
REQUEST = GenerationRequest(
    model="tiny",
    prompt="a \u2603 \0 and \u200b'quotes\"",
    negative_prompt="",
    height=32,
    width=32,
    num_frames=5,
    fps=23.976,
    num_inference_steps=2,
    guidance_scale=1.5,
    flow_shift=0.1 + 0.2,
    seed=2**63 - 1,
    first_frame="f" * 64 + ".png",
)


def test_a_clip_says_all_that_is_needed_to_make_it_again(tmp_path):
    with VideoWriter(
        tmp_path / "c.mp4", width=32, height=32, fps=8, title=REQUEST.prompt, metadata=describe(REQUEST, CARD)
    ) as writer:
        writer.write(FRAMES)
    told = read_provenance(tmp_path / "c.mp4")
    assert told.request == REQUEST
    assert (told.model, told.identity, told.vitascope) == ("tiny", "0123abcd", vitascope.__version__)
    assert told.frames_sha256 == hash_frames(FRAMES)


@pytest.mark.parametrize("metadata", [None, {"request": {}}, {"vitascope": 1}])
def test_a_clip_of_another_program_is_refused_with_a_reason(tmp_path, metadata):
    with VideoWriter(tmp_path / "c.mp4", width=32, height=32, fps=8, metadata=metadata) as writer:
        writer.write(FRAMES)
    with pytest.raises(InvalidMedia, match="does not say how it was made"):
        read_provenance(tmp_path / "c.mp4")
