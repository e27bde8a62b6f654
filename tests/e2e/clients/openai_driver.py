"""One version of the `openai` package, sync or async, put through all that it does with videos.

A script of its own, because each version lies in a folder of its own. Arguments: sync or async, the server's
URL, its key, the expected version, a folder to write to. Prints one JSON object a step.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import io
import sys
from pathlib import Path

import openai
from drive import KEYS, PROMPT, QUICK, Steps, is_mp4, kind_of, picture

HAS_EDITS = hasattr(openai.resources.Videos, "edit")  # from 2.27 on
LONG = {**QUICK, "num_inference_steps": 200}
steps = Steps()


class Sdk:
    """A client, with its calls settled at once whether it is the sync or the async one."""

    def __init__(self, mode, url, key):
        self.is_async = mode == "async"
        self.loop = asyncio.new_event_loop()
        kind = openai.AsyncOpenAI if self.is_async else openai.OpenAI
        self.client = kind(base_url=f"{url}/v1", api_key=key, max_retries=0)
        self.stranger = kind(base_url=f"{url}/v1", api_key="another", max_retries=0)
        self.videos = self.client.videos

    def settle(self, value):
        return self.loop.run_until_complete(value) if inspect.isawaitable(value) else value

    def create(self, **said):
        return self.settle(self.videos.create(**{"prompt": PROMPT, "extra_body": QUICK, **said}))

    def delete(self, *ids):
        return [self.settle(self.videos.delete(video_id)) for video_id in ids]

    def done(self, video_id):
        video = self.settle(self.videos.poll(video_id, poll_interval_ms=50))
        assert video.status == "completed", video
        return video

    def content(self, video_id, **said):
        return self.settle(self.videos.download_content(video_id, **said))

    def listed(self, **said):
        pages = self.videos.list(**said)
        if not self.is_async:
            return list(pages)

        async def gather():
            return [video async for video in pages]

        return self.settle(gather())

    def streamed(self, video_id):
        call = self.videos.with_streaming_response.download_content(video_id)
        if not self.is_async:
            with call as answer:
                return b"".join(answer.iter_bytes(1000))

        async def gather():
            async with call as answer:
                return b"".join([piece async for piece in answer.iter_bytes(1000)])

        return self.settle(gather())

    def refused(self, kind, call, *args, **said):
        try:
            self.settle(call(*args, **said))
        except kind as error:
            return error
        raise AssertionError(f"{kind.__name__} was not raised")


@steps.step("create")
def create(sdk, folder):
    size = f"{sdk.defaults['width']}x{sdk.defaults['height']}"
    said = {"model": "sora-2", "seconds": "1", "size": size, "extra_body": {"extra_params": QUICK}}
    video = sdk.create(**said)
    assert (video.object, video.status, video.progress, video.size) == ("video", "queued", 0, size)
    assert video.model_extra["num_frames"] == QUICK["num_frames"]  # wins over seconds, also from within
    assert video.model != "sora-2"
    as_json = sdk.create(extra_headers={"Content-Type": "application/json"})
    sdk.delete(video.id, as_json.id)


@steps.step("create with a picture")
def create_with_a_picture(sdk, folder):
    data = picture(sdk.defaults)
    path = folder / "first.png"
    path.write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    ids = [
        sdk.create(extra_body={**QUICK, "input_reference": {"image_url": url}}).id,
        sdk.create(extra_body={**QUICK, "last_frame_reference": {"image_url": url}}, input_reference=data).id,
    ]
    with path.open("rb") as file:
        forms = [data, io.BytesIO(data), file, path, ("../../x.png", data), ("a", data, "image/png")]
        ids += [sdk.create(input_reference=form).id for form in forms]
    clips = [sdk.content(sdk.done(video_id).id).content for video_id in (ids[0], ids[2])]
    assert clips[0] == clips[1]
    assert sdk.refused(openai.BadRequestError, sdk.create, input_reference=b"x").code == "invalid_media"
    sdk.delete(*ids)


@steps.step("create and poll")
def create_and_poll(sdk, folder):
    call = sdk.videos.create_and_poll(prompt=PROMPT, extra_body=QUICK)
    video = sdk.settle(call)
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    sdk.finished = video.id


@steps.step("retrieve")
def retrieve(sdk, folder):
    video = sdk.settle(sdk.videos.retrieve(sdk.finished))
    said = video.to_dict()
    assert said.keys() >= KEYS
    assert (said["prompt"], said["seed"], said["seconds"]) == (PROMPT, 1, "0.625")
    assert isinstance(said["completed_at"], int)
    waits = sdk.create()
    assert sdk.settle(sdk.videos.retrieve(waits.id)).completed_at is None
    sdk.delete(waits.id)


@steps.step("list")
def list_(sdk, folder):
    ids = [sdk.create().id for _ in range(3)]
    newest_first = [video.id for video in sdk.listed(limit=2)]
    assert newest_first == [*ids[::-1], sdk.finished]
    assert [video.id for video in sdk.listed(limit=2, order="asc")] == newest_first[::-1]
    assert [video.id for video in sdk.listed(after=ids[1])] == [ids[0], sdk.finished]
    sdk.delete(*ids)


@steps.step("download")
def download(sdk, folder):
    answer = sdk.content(sdk.finished)
    answer.write_to_file(folder / "clip.mp4")
    assert is_mp4(answer.content)
    assert (folder / "clip.mp4").read_bytes() == sdk.content(sdk.finished, variant="video").content


@steps.step("stills")
def stills(sdk, folder):
    for variant, kind in (("thumbnail", "WEBP"), ("spritesheet", "JPEG")):
        assert kind_of(sdk.content(sdk.finished, variant=variant).content) == kind


@steps.step("stream")
def stream(sdk, folder):
    assert sdk.streamed(sdk.finished) == (folder / "clip.mp4").read_bytes()


@steps.step("remix")
def remix(sdk, folder):
    video = sdk.settle(sdk.videos.remix(sdk.finished, prompt=f"{PROMPT} slowly"))
    assert (video.remixed_from_video_id, video.model_extra["num_frames"]) == (sdk.finished, 5)
    assert sdk.done(video.id).model_extra["seed"] == QUICK["seed"]
    sdk.delete(video.id)


def by_id(sdk):
    """What names an earlier video: an object, which the SDK's own types have and its code refuses."""
    settings = {"num_inference_steps": 2, "video": {"id": sdk.finished}}
    return {"prompt": PROMPT, "video": openai.NOT_GIVEN, "extra_body": settings}


@steps.step("edit", where=HAS_EDITS)
def edit(sdk, folder):
    video = sdk.settle(sdk.videos.edit(**by_id(sdk)))
    assert (video.remixed_from_video_id, sdk.done(video.id).seconds) == (sdk.finished, "0.625")
    settings = {"num_inference_steps": 2}
    upload = sdk.settle(sdk.videos.edit(prompt=PROMPT, video=folder / "clip.mp4", extra_body=settings))
    assert (upload.remixed_from_video_id, upload.model_extra["num_frames"]) == (None, 5)
    error = sdk.refused(openai.BadRequestError, sdk.videos.edit, prompt=PROMPT, video=b"x")
    assert error.param == "video"
    sdk.delete(video.id, upload.id)


@steps.step("extend", where=HAS_EDITS)
def extend(sdk, folder):
    video = sdk.settle(sdk.videos.extend(seconds="1", **by_id(sdk)))
    assert (video.remixed_from_video_id, video.seconds) == (sdk.finished, "1.625")
    assert is_mp4(sdk.content(sdk.done(video.id).id).content)
    sdk.delete(video.id)


@steps.step("cancel")
def cancel(sdk, folder):
    video = sdk.create(extra_body=LONG)
    sdk.settle(sdk.client.post(f"/videos/{video.id}/cancel", cast_to=object))
    ended = sdk.settle(sdk.videos.poll(video.id, poll_interval_ms=50))
    assert (ended.status, ended.error.code) == ("failed", "cancelled")
    sdk.delete(video.id)


@steps.step("delete")
def delete(sdk, folder):
    [deleted] = sdk.delete(sdk.finished)
    assert (deleted.id, deleted.object, deleted.deleted) == (sdk.finished, "video.deleted", True)
    for call in (sdk.videos.retrieve, sdk.videos.delete, sdk.videos.download_content):
        assert "not found" in sdk.refused(openai.NotFoundError, call, sdk.finished).message
    assert sdk.listed() == []


@steps.step("errors")
def errors(sdk, folder):
    error = sdk.refused(openai.BadRequestError, sdk.create, extra_body={"num_inference_step": 3})
    assert (error.code, error.param, error.type) == (
        "unknown_parameter", "num_inference_step", "invalid_request_error"
    )  # fmt: skip
    assert "did you mean 'num_inference_steps'" in error.message
    assert error.request_id.startswith("req_")
    assert "is not served here" in sdk.refused(openai.BadRequestError, sdk.create, model="veo").message
    assert "WIDTHxHEIGHT" in sdk.refused(openai.BadRequestError, sdk.create, size="big").message
    assert "limit" in sdk.refused(openai.BadRequestError, sdk.listed, limit=0).message
    unfinished = sdk.create(extra_body=LONG)
    early = sdk.refused(openai.NotFoundError, sdk.videos.download_content, unfinished.id)
    assert "not ready yet" in early.message
    sdk.refused(openai.NotFoundError, sdk.videos.remix, unfinished.id, prompt=PROMPT)
    sdk.delete(unfinished.id)
    key = sdk.refused(openai.AuthenticationError, sdk.stranger.videos.retrieve, "video_0")
    assert (key.code, key.status_code) == ("invalid_api_key", 401)


if __name__ == "__main__":
    mode, url, key, version, folder = sys.argv[1:]
    assert openai.__version__ == version, openai.__version__
    sdk = Sdk(mode, url, key)
    sdk.defaults = sdk.settle(sdk.client.models.retrieve("sora-2")).model_extra["defaults"]
    steps.run(sdk, Path(folder))
