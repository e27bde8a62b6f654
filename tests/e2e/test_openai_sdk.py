"""The unmodified OpenAI SDK, sync and async, against a real server with the bundled model."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path

import openai
import pytest
from PIL import Image

# The SDK announces the end of OpenAI's own service; its client stays the field's common one.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

PROMPT = "a red circle moving right on a blue background"
QUICK = {"num_inference_steps": 2, "num_frames": 5, "seed": 1}


@pytest.fixture
def client(shared_server):
    with openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def picture(client):
    """A first frame in the bundled model's native size, as bytes."""
    defaults = json.loads(client.models.list().data[0].to_json())["defaults"]
    buffer = io.BytesIO()
    Image.new("RGB", (defaults["width"], defaults["height"]), (30, 60, 200)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def finished(shared_server):
    """The id of a completed clip, for the tests that only read it."""
    with openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="any") as client:
        video = client.videos.create_and_poll(prompt=PROMPT, extra_body=QUICK)
    assert video.status == "completed", video.error
    return video.id


def is_mp4(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


def test_create_retrieve_poll_download_delete(client):
    video = client.videos.create(prompt=PROMPT, extra_body=QUICK)
    assert (video.object, video.status, video.progress) == ("video", "queued", 0)
    assert client.videos.retrieve(video.id).id == video.id
    done = client.videos.poll(video.id)
    assert (done.status, done.progress, done.error, done.prompt) == ("completed", 100, None, PROMPT)
    assert done.model_extra["num_frames"] == 5
    assert is_mp4(client.videos.download_content(video.id).read())
    deleted = client.videos.delete(video.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (video.id, "video.deleted", True)
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.videos.retrieve(video.id)


def test_the_stills_of_a_clip_are_pictures(client, finished):
    for variant, kind in (("thumbnail", "WEBP"), ("spritesheet", "JPEG")):
        with Image.open(
            io.BytesIO(client.videos.download_content(finished, variant=variant).read())
        ) as still:
            still.load()
            assert still.format == kind


def test_a_remix_is_another_clip_of_the_same_settings(client, finished):
    remix = client.videos.remix(finished, prompt="a green circle moving right on a blue background")
    assert (remix.remixed_from_video_id, remix.model_extra["num_frames"]) == (finished, 5)
    done = client.videos.poll(remix.id)
    assert (done.status, done.model_extra["seed"]) == ("completed", QUICK["seed"])
    clips = {client.videos.download_content(video).read() for video in (finished, remix.id)}
    assert len(clips) == 2


def test_a_create_that_is_retried_under_its_key_is_one_video(client):
    key = {"Idempotency-Key": "one-and-the-same"}
    videos = [client.videos.create(prompt=PROMPT, extra_body=QUICK, extra_headers=key) for _ in range(2)]
    assert videos[0].id == videos[1].id
    client.videos.delete(videos[0].id)


def test_create_and_poll_with_model_seconds_and_size(client):
    model = client.models.list().data[0]
    size = f"{model.defaults['width']}x{model.defaults['height']}"
    video = client.videos.create_and_poll(
        prompt=PROMPT, model=model.id, seconds="1", size=size, extra_body={"num_inference_steps": 1}
    )
    assert video.status == "completed", video.error
    assert (video.model, video.size) == (model.id, size)
    assert float(video.seconds) == pytest.approx(1, abs=0.5)
    client.videos.delete(video.id)


def test_a_picture_is_uploaded_as_bytes_file_and_tuple(client, picture, tmp_path: Path):
    path = tmp_path / "first.png"
    path.write_bytes(picture)
    with path.open("rb") as file:
        forms = [picture, io.BytesIO(picture), file, ("../x.png", picture, "image/png"), path]
        for form in forms:
            video = client.videos.create(prompt=PROMPT, input_reference=form, extra_body=QUICK)
            client.videos.delete(video.id)
    video = client.videos.create_and_poll(prompt=PROMPT, input_reference=picture, extra_body=QUICK)
    assert video.status == "completed", video.error
    client.videos.delete(video.id)


def test_pictures_of_both_ends_by_data_url(client, picture):
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    ends = {"input_reference": {"image_url": url}, "last_frame_reference": {"image_url": url}}
    video = client.videos.create_and_poll(prompt=PROMPT, extra_body={**QUICK, **ends})
    assert video.status == "completed", video.error
    client.videos.delete(video.id)


def test_nested_extra_body_survives_the_forms_brackets(client):
    video = client.videos.create(prompt=PROMPT, extra_body={"extra_params": QUICK})
    assert client.videos.retrieve(video.id).model_extra["num_frames"] == 5
    client.videos.delete(video.id)


def test_a_create_as_json(client):
    video = client.videos.create(
        prompt=PROMPT, extra_headers={"Content-Type": "application/json"}, extra_body=QUICK
    )
    assert video.status == "queued"
    client.videos.delete(video.id)


def test_the_list_pages_by_itself(client, finished):
    ids = [client.videos.create(prompt=PROMPT, extra_body=QUICK).id for _ in range(3)]
    listed = [video.id for video in client.videos.list(limit=2)]
    assert listed[:3] == ids[::-1]
    assert finished in listed
    assert len(set(listed)) == len(listed)
    assert [video.id for video in client.videos.list(limit=2, order="asc")] == listed[::-1]
    for video_id in ids:
        client.videos.delete(video_id)


def test_a_download_may_be_streamed(client, finished, tmp_path: Path):
    whole = client.videos.download_content(finished)
    whole.write_to_file(tmp_path / "clip.mp4")
    with client.videos.with_streaming_response.download_content(finished) as answer:
        streamed = b"".join(answer.iter_bytes(1000))
    assert is_mp4(streamed)
    assert (tmp_path / "clip.mp4").read_bytes() == streamed


def test_refusals_reach_the_caller_in_words(client, picture):
    with pytest.raises(openai.BadRequestError, match="num_inference_steps") as caught:
        client.videos.create(prompt=PROMPT, extra_body={"num_inference_step": 3})
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", "num_inference_step")
    assert caught.value.request_id.startswith("req_")
    with pytest.raises(openai.BadRequestError, match="is not served here"):
        client.videos.create(prompt=PROMPT, model="sora-2")
    with pytest.raises(openai.BadRequestError, match="formats that are read"):
        client.videos.create(prompt=PROMPT, input_reference=b"no picture")
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.videos.download_content("video_0")


def test_content_before_the_end_is_not_ready(client, holds):
    holds.at(1)
    video = client.videos.create(prompt=PROMPT, extra_body=QUICK)
    with pytest.raises(openai.NotFoundError, match="not ready yet"):
        client.videos.download_content(video.id)
    client.videos.delete(video.id)


def test_a_cancelled_job_ends_a_poll(client, holds):
    holds.at(1)
    video = client.videos.create(prompt=PROMPT, extra_body=QUICK)
    client.post(f"/videos/{video.id}/cancel", cast_to=object)
    ended = client.videos.poll(video.id, poll_interval_ms=50)
    assert (ended.status, ended.error.code) == ("failed", "cancelled")
    client.videos.delete(video.id)


def test_an_upload_over_the_limit_is_an_answer_and_not_a_broken_pipe(client):
    with pytest.raises(openai.APIStatusError, match="larger than 64 MiB") as caught:
        client.videos.create(prompt=PROMPT, input_reference=bytes(70 * 2**20))
    assert caught.value.status_code == 413


def test_the_models_are_listed(client):
    models = client.models.list().data
    assert models[0].owned_by == "vitascope"
    assert client.models.retrieve(models[0].id).id == models[0].id


def test_the_async_client_does_the_same(shared_server, picture):
    async def session():
        async with openai.AsyncOpenAI(
            base_url=f"{shared_server.url}/v1", api_key="any", max_retries=0
        ) as client:
            video = await client.videos.create_and_poll(
                prompt=PROMPT, input_reference=picture, extra_body=QUICK
            )
            assert video.status == "completed", video.error
            assert video.id in [listed.id async for listed in client.videos.list(limit=1)]
            content = await client.videos.download_content(video.id)
            assert is_mp4(await content.aread())
            assert (await client.videos.delete(video.id)).deleted
            with pytest.raises(openai.NotFoundError):
                await client.videos.retrieve(video.id)

    asyncio.run(session())
