from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from vitascope.card import Defaults, ModelCard, Rules
from vitascope.cli.output import Output, automatic_name
from vitascope.engine.events import Cost
from vitascope.errors import InvalidRequest
from vitascope.library import Clip
from vitascope.media.frames import read_frames
from vitascope.media.provenance import read_provenance
from vitascope.request import GenerationRequest

NOW = datetime(2026, 11, 21, 14, 30, 5, tzinfo=UTC)
CARD = ModelCard(
    name="tiny",
    family="wan",
    tasks=("t2v",),
    defaults=Defaults(height=32, width=32, num_frames=5, fps=8, num_inference_steps=2, guidance_scale=1),
    rules=Rules(size_multiple=8, frame_stride=4, max_pixels=4096, max_frames=17),
    identity="abc",
)
REQUEST = GenerationRequest(
    model="tiny",
    prompt="A red circle, moving!",
    negative_prompt="",
    height=32,
    width=32,
    num_frames=5,
    fps=8,
    num_inference_steps=2,
    guidance_scale=1.0,
    seed=1,
)
CLIP = Clip(
    frames=np.arange(5 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(5, 32, 32, 3),
    request=REQUEST,
    card=CARD,
    latents={},
    stats=Cost({}, 0),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_sound_goes_beside_the_clip(here):
    loud = replace(CLIP, audio=np.zeros((2, 4000), np.float32), sample_rate=8000)
    paths = Output(output_path=".", output_file_name="c", save_audio=True).write(loud)
    assert [path.name for path in paths] == ["c.mp4", "c.wav"]
    assert paths[1].read_bytes()[:4] == b"RIFF"


def test_sound_is_refused_of_a_model_that_makes_none():
    Output(save_audio=True).check_sound(replace(CARD, makes_sound=True))
    with pytest.raises(InvalidRequest, match="tiny makes no sound; leave --save-audio out"):
        Output(save_audio=True).check_sound(CARD)
    with pytest.raises(InvalidRequest, match="tiny makes no sound"):
        CLIP.save_audio("c.wav")


def test_a_name_tells_prompt_and_time_and_ends_in_a_hash_of_the_request():
    name = automatic_name(REQUEST, NOW)
    assert re.fullmatch(r"a_red_circle_moving_20261121-143005_[0-9a-f]{8}", name)
    assert name == automatic_name(REQUEST, NOW)
    assert name != automatic_name(replace(REQUEST, seed=2), NOW)


@pytest.mark.parametrize("prompt", ["x" * 5000, "狐" * 300, "../../etc/passwd", "a\0b\n/c", "-rf *"])
def test_any_prompt_makes_a_short_harmless_name(prompt):
    name = automatic_name(replace(REQUEST, prompt=prompt), NOW)
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,125}", name)


def test_without_a_name_a_clip_goes_to_the_outputs_folder(here):
    Output().check()
    (path,) = Output().write(CLIP)
    assert path.parent.name == "outputs"
    assert names(here / "outputs") == [path.name]
    assert read_provenance(path).request == REQUEST


def test_two_equal_clips_in_one_second_do_not_overwrite_each_other(here):
    Output().check()
    written = [Output().write(CLIP)[0] for _ in range(3)]
    assert len({*written}) == 3
    assert names(here / "outputs") == sorted(path.name for path in written)


def test_all_files_share_one_name(here):
    output = Output(output_path="out", output_file_name="clip", return_frames=True, contact_sheet=True)
    output.check()
    assert [str(path) for path in output.write(CLIP)] == ["out/clip.mp4", "out/clip.npz", "out/clip.png"]
    assert names(here / "out") == ["clip.mp4", "clip.npz", "clip.png"]
    assert np.array_equal(read_frames(here / "out" / "clip.npz")[0], CLIP.frames)


@pytest.mark.parametrize(
    "output",
    [
        Output(output_path="a/b", output_file_name="c.mp4"),
        Output(output_file_path="a/b/c.mp4"),
        Output(output_file_path="a/b/c"),
        Output(output_file_path="a/b/c.mp4", output_file_name="c.mp4"),
    ],
)
def test_folder_and_name_may_be_given_apart_or_in_one(here, output):
    output.check()
    assert output.write(CLIP) == [(here / "a/b/c.mp4").relative_to(here)]


def test_nothing_is_written_when_nothing_is_wanted(here):
    output = Output(save_output=False)
    output.check()
    assert output.write(CLIP) == []
    assert names(here) == []


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (Output(output_path=""), "output_path is empty; to write nothing use --no-save-output"),
        (Output(output_file_name="a/b.mp4"), "output_file_name is 'a/b.mp4'; give a name without a folder"),
        (Output(output_file_name=".."), "output_file_name is '..'; give a name without a folder"),
        (Output(output_file_name=""), "output_file_name is ''"),
        (Output(output_file_name=".mp4"), "output_file_name is '.mp4'"),
        (Output(output_file_path="new/"), "output_file_path is 'new/', a folder; give a file in it"),
        (Output(output_file_path=".."), "output_file_path is '..', a folder; give a file in it"),
        (Output(output_path="/proc/self"), "The folder '/proc/self' cannot be made or written"),
        (Output(output_file_name="a.webm"), "output_file_name ends in '.webm'; clips are written as .mp4"),
        (
            Output(output_file_path="x/a.mp4", output_file_name="b.mp4"),
            "'a.mp4' and output_file_name 'b.mp4'",
        ),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_a_clip_is_made(here, output, message):
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        output.check()
    assert names(here) == []


def test_a_file_that_exists_is_refused_before_a_clip_is_made_and_replaced_on_demand(here):
    (here / "c.mp4").write_bytes(b"mine")
    with pytest.raises(InvalidRequest, match=r"c.mp4 exists; choose another name or use --overwrite"):
        Output(output_file_path="c.mp4").check()
    assert (here / "c.mp4").read_bytes() == b"mine"
    output = Output(output_file_path="c.mp4", overwrite=True)
    output.check()
    output.write(CLIP)
    assert (here / "c.mp4").read_bytes() != b"mine"


def test_a_folder_that_cannot_be_made_is_refused_by_name(here):
    (here / "file").write_bytes(b"")
    with pytest.raises(InvalidRequest, match="The folder 'file/out' cannot be made"):
        Output(output_path="file/out").check()


def test_a_write_that_fails_leaves_nothing(here):
    odd = replace(CLIP, frames=CLIP.frames[:, :31])
    with pytest.raises(InvalidRequest):
        Output(output_path=".").write(odd)
    assert names(here) == []
