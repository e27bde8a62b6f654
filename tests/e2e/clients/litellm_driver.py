"""LiteLLM put through all that it does with videos; its `openai` or `hosted_vllm` provider is the mode.

Arguments: the provider, the server's URL, its key, the expected version, a folder to write to. Prints one
JSON object a step.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from importlib.metadata import version as version_of
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no list of prices from the network

import litellm
from drive import PROMPT, QUICK, Steps, is_mp4, kind_of, picture
from litellm.types.videos.utils import extract_original_video_id

steps = Steps()


class Gateway:
    """The library's calls for one provider at one place."""

    def __init__(self, provider, url, key):
        self.provider = provider
        # What each provider's users write: hosted_vllm finds the /v1 by itself.
        base = url if provider == "hosted_vllm" else f"{url}/v1"
        self.place = {"api_base": base, "api_key": key}
        self.model = f"{provider}/vitascope-tiny"

    def create(self, prompt=PROMPT, **said):
        # vLLM-Omni's fields are hosted_vllm's own; OpenAI's provider takes them as it takes any other.
        ours = QUICK if self.provider == "hosted_vllm" else {"extra_body": QUICK}
        model = said.pop("model", self.model)
        return litellm.video_generation(prompt=prompt, model=model, **ours, **self.place, **said)

    def status(self, video_id):
        return litellm.video_status(video_id=video_id, **self.place)

    def done(self, video_id):
        deadline = time.monotonic() + 120
        while (video := self.status(video_id)).status != "completed":
            assert video.status in {"queued", "in_progress"}, video
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return video

    def content(self, video_id, **said):
        return litellm.video_content(video_id=video_id, **self.place, **said)

    def refused(self, kind, call, *args, **said):
        try:
            call(*args, **said)
        except kind as error:
            return str(error)
        raise AssertionError(f"{kind.__name__} was not raised")


@steps.step("create")
def create(gateway, folder):
    video = gateway.create(model=f"{gateway.provider}/sora-2", seconds="1", size="64x64")
    assert (video.object, video.status, video.size, video.error) == ("video", "queued", "64x64", None)
    assert video.id.startswith("video_")  # LiteLLM's own wrapping of our id
    again = asyncio.run(litellm.avideo_status(video_id=video.id, **gateway.place))
    assert again.created_at == video.created_at
    gateway.finished = gateway.done(video.id).id


@steps.step("retrieve")
def retrieve(gateway, folder):
    video = gateway.status(gateway.finished)
    assert (video.status, video.progress, video.seconds) == ("completed", 100, "0.625")


@steps.step("create with a picture")
def create_with_a_picture(gateway, folder):
    data = picture({"width": 64, "height": 64})
    path = folder / "first.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        ids = [gateway.create(input_reference=form).id for form in (data, file)]
    clips = {gateway.content(gateway.done(video_id).id) for video_id in ids}
    assert len(clips) == 1


@steps.step("list")
def list_(gateway, folder):
    def page(**said):
        found = litellm.video_list(custom_llm_provider=gateway.provider, limit=2, **gateway.place, **said)
        assert [found["first_id"], found["last_id"]] == [found["data"][0]["id"], found["data"][-1]["id"]]
        return found

    first = page(order="asc")
    second = page(order="asc", after=first["last_id"])
    # Its wrapped ids hold the model's name too, here the alias and there the model behind it.
    ids = [extract_original_video_id(video["id"]) for video in (*first["data"], *second["data"])]
    assert ids[0] == extract_original_video_id(gateway.finished)
    assert all(re.fullmatch("video_[0-9a-f]{32}", video_id) for video_id in ids)
    assert len(set(ids)) == len(ids) == 3
    assert (first["has_more"], second["has_more"]) == (True, False)


@steps.step("download")
def download(gateway, folder):
    data = gateway.content(gateway.finished)
    assert is_mp4(data)
    assert asyncio.run(litellm.avideo_content(video_id=gateway.finished, **gateway.place)) == data


@steps.step("stills")
def stills(gateway, folder):
    for variant, kind in (("thumbnail", "WEBP"), ("spritesheet", "JPEG")):
        assert kind_of(gateway.content(gateway.finished, variant=variant)) == kind


@steps.step("remix")
def remix(gateway, folder):
    video = litellm.video_remix(video_id=gateway.finished, prompt=f"{PROMPT} slowly", **gateway.place)
    assert video.remixed_from_video_id
    assert is_mp4(gateway.content(gateway.done(video.id).id))


@steps.step("edit")
def edit(gateway, folder):
    said = {"video_id": gateway.finished, "prompt": PROMPT, **gateway.place}
    video = litellm.video_edit(**said)
    assert video.remixed_from_video_id
    assert gateway.done(video.id).seconds == "0.625"


@steps.step("extend")
def extend(gateway, folder):
    said = {"video_id": gateway.finished, "prompt": PROMPT, "seconds": "1", **gateway.place}
    assert gateway.done(litellm.video_extension(**said).id).seconds == "1.625"


@steps.step("errors")
def errors(gateway, folder):
    # LiteLLM tells by the code what a 400 is; its exceptions carry our whole answer.
    assert "WIDTHxHEIGHT" in gateway.refused(litellm.BadRequestError, gateway.create, size="big")
    unknown = f"{gateway.provider}/veo"
    assert "is not served here" in gateway.refused(litellm.NotFoundError, gateway.create, model=unknown)
    # It reads any invalid_request_error of a route without a model as a bad request, OpenAI's own 404 too.
    nobody = {"video_id": "video_0", "custom_llm_provider": gateway.provider, **gateway.place}
    assert "not found" in gateway.refused(litellm.BadRequestError, litellm.video_status, **nobody)
    gateway.place["api_key"] = "another"
    assert "invalid_api_key" in gateway.refused(litellm.AuthenticationError, gateway.status, gateway.finished)


if __name__ == "__main__":
    provider, url, key, version, folder = sys.argv[1:]
    assert version_of("litellm") == version
    steps.run(Gateway(provider, url, key), Path(folder))
