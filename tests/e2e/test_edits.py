"""Edits and extensions through the unmodified OpenAI SDK, by id and by upload, with the bundled model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import openai
import pytest

from documents import DIALECTS, WRITTEN_URL, blocks
from tiny_clips import encoded
from vitascope.media.video import read_video

# The SDK announces the end of OpenAI's own service; its client stays the field's common one.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

PROMPT = "a red circle moving right on a blue background"
GREEN = "a green circle moving right on a blue background"
QUICK = {"num_inference_steps": 4, "num_frames": 5, "seed": 1}
BY_ID = {"video": openai.NOT_GIVEN}  # the Python SDK takes files alone: ids go into the extra body


@pytest.fixture(scope="module")
def client(shared_server):
    with openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def source(client):
    video = client.videos.create_and_poll(prompt=PROMPT, extra_body=QUICK)
    assert video.status == "completed", video.error
    return video.id


@pytest.fixture
def frames(client, tmp_path: Path):
    """Wait for a video and decode it."""

    def decode(video_id: str, output: int = 0) -> np.ndarray:
        video = client.videos.poll(video_id, poll_interval_ms=20)
        assert video.status == "completed", video.error
        content = client.videos.download_content(video_id, extra_query={"index": output})
        content.write_to_file(tmp_path / "clip.mp4")
        return read_video(tmp_path / "clip.mp4").frames.astype(int)

    return decode


def test_an_edit_keeps_more_of_its_clip_the_less_strength_it_has(client, source, frames):
    before, far = frames(source), []
    for strength in (0.1, 1.0):
        settings = {"num_inference_steps": 10, "guidance_scale": 1.0, "seed": 2, "strength": strength}
        extra = {"video": {"id": source}, **settings}
        edited = client.videos.edit(prompt=GREEN, **BY_ID, extra_body=extra)
        assert (edited.remixed_from_video_id, edited.prompt) == (source, GREEN)
        after = frames(edited.id)
        assert after.shape == before.shape
        far.append(float(np.abs(after - before).mean()))
    assert far[0] < 0.8 * far[1]


def test_an_upload_is_edited_as_the_video_that_it_was_downloaded_from(client, source, frames):
    content = client.videos.download_content(source).read()
    extra = {"num_inference_steps": 4, "seed": 2}
    by_upload = client.videos.edit(prompt=GREEN, video=content, extra_body=extra)
    by_id = client.videos.edit(prompt=GREEN, **BY_ID, extra_body={"video": {"id": source}, **extra})
    assert by_upload.remixed_from_video_id is None
    assert (frames(by_upload.id) == frames(by_id.id)).all()


def test_each_of_several_edits_is_the_one_that_its_seed_makes_alone(client, source, frames):
    extra = {"video": {"id": source}, "num_inference_steps": 2}
    alone = client.videos.edit(prompt=GREEN, **BY_ID, extra_body={**extra, "seed": 8})
    both = client.videos.edit(prompt=GREEN, **BY_ID, extra_body={**extra, "seed": 7, "n": 2})
    assert both.model_extra["seeds"] == [7, 8]
    assert (frames(both.id, 1) == frames(alone.id)).all()
    assert (frames(both.id) != frames(both.id, 1)).any()


def test_each_of_several_extensions_goes_on_from_the_same_clip(client, source, frames):
    extra = {"video": {"id": source}, "num_inference_steps": 2, "seed": 3, "n": 2}
    both = client.videos.extend(prompt=PROMPT, seconds="1", **BY_ID, extra_body=extra)
    first, second = frames(both.id), frames(both.id, 1)
    assert first.shape == second.shape == (13, *first.shape[1:])
    for longer in (first, second):
        assert np.abs(longer[:5] - frames(source)).mean() < 4  # encoded once more
    assert (first[5:] != second[5:]).any()


def test_an_extension_is_the_clip_and_what_follows(client, source, frames):
    before = frames(source)
    extra = {"video": {"id": source}, "num_inference_steps": 4, "seed": 3}
    longer = client.videos.extend(prompt=PROMPT, seconds="1", **BY_ID, extra_body=extra)
    assert (longer.remixed_from_video_id, longer.seconds) == (source, "1.625")
    assert longer.model_extra["num_frames"] == 13
    after = frames(longer.id)
    assert after.shape == (13, *before.shape[1:])
    assert np.abs(after[:5] - before).mean() < 4  # encoded once more
    assert np.abs(after[5] - after[4]).mean() < 20  # goes on from there


def test_an_upload_is_extended_and_extended_again(client, frames):
    clip = io.BytesIO(encoded(np.full((3, 40, 72, 3), 90, np.uint8), fps=8))
    extra = {"size": "64x64", "resize_mode": "pad", "num_inference_steps": 2, "num_frames": 5}
    longer = client.videos.extend(prompt=PROMPT, seconds="1", video=clip, extra_body=extra)
    assert longer.model_extra["warnings"] == ["The clip's 72x40 were padded to 64x64."]
    assert frames(longer.id).shape == (7, 64, 64, 3)
    again = {"video": {"id": longer.id}, "num_inference_steps": 2, "num_frames": 5}
    longest = client.videos.extend(prompt=PROMPT, seconds="1", **BY_ID, extra_body=again)
    assert frames(longest.id).shape == (11, 64, 64, 3)


def test_refusals_reach_the_caller_in_words(client):
    with pytest.raises(openai.NotFoundError, match="not found") as caught:
        client.videos.edit(prompt=GREEN, **BY_ID, extra_body={"video": {"id": "video_0"}})
    assert caught.value.param == "video"
    with pytest.raises(openai.BadRequestError, match="formats that are read"):
        client.videos.extend(prompt=PROMPT, seconds="1", video=b"no clip")


def test_the_documented_example_runs_as_it_stands(shared_server, client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = {video.id for video in client.videos.list()}
    [example] = [block for block in blocks(DIALECTS, "python", section="OpenAI Videos") if "extend(" in block]
    exec(example.replace(WRITTEN_URL, shared_server.url), {})
    edited, first, longer = sorted(tmp_path.iterdir(), key=lambda path: len(read_video(path).frames))
    lengths = [len(read_video(path).frames) for path in (edited, first, longer)]
    assert lengths[0] == lengths[1] < lengths[2]
    for video in list(client.videos.list()):
        if video.id not in there:
            client.videos.delete(video.id)
