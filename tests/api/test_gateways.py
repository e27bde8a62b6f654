"""What gateways and workflow tools make of OpenAI's contract, as they write and read it."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import replace

import pytest

from vitascope.jobs.job import Failure

SORA_SIZES = ["720x1280", "1280x720", "1024x1792", "1792x1024"]
PROMPT = "a red circle"


@pytest.fixture
def large(open_house):
    """A model that makes OpenAI's four sizes, under OpenAI's names."""
    house, client = open_house(model_alias=("sora-2", "sora-2-pro"))
    card = house.scheduling.served[0]
    rules = replace(card.rules, max_pixels=1792 * 1024, max_frames=129)
    house.scheduling.served = [replace(card, rules=rules)]
    return house, client


def form(**fields):
    return [(name, (None, value)) for name, value in fields.items()]


def n8n(size, **more):
    """A create as n8n's OpenAI node writes it."""
    return form(model="sora-2", prompt=PROMPT, seconds="4", size=size, **more)


@pytest.mark.parametrize("size", SORA_SIZES)
def test_the_four_sizes_are_made_where_the_model_can(large, png, size):
    _, client = large
    width, height = map(int, size.split("x"))
    picture = ("input_reference", ("first frame.png", png(width, height), "image/png"))
    video = client.post("/v1/videos", files=[*n8n(size), picture]).json()
    assert (video["size"], video["status"], video["error"]) == (size, "queued", None)


@pytest.mark.parametrize("size", SORA_SIZES)
def test_the_four_sizes_are_refused_with_the_limit_where_it_cannot(client, size):
    answer = client.post("/v1/videos", json={"prompt": PROMPT, "size": size})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")
    assert "at most" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["sora-2", "sora-2-pro"])
def test_openais_names_are_aliases_and_the_answer_names_the_model(large, name):
    _, client = large
    for seconds in ("4", "8", "12"):
        video = client.post("/v1/videos", json={"model": name, "prompt": PROMPT, "seconds": seconds}).json()
        assert video["model"] == "tiny"
        assert float(video["seconds"]) == pytest.approx(float(seconds), abs=0.3)


def test_nothing_that_reads_as_an_error_is_there_until_it_failed(large):
    """n8n takes any truthy `error` for a failure."""
    house, client = large
    video_id = client.post("/v1/videos", files=n8n("1280x720")).json()["id"]
    house.start(video_id)
    assert client.get(f"/v1/videos/{video_id}").json()["error"] is None
    house.finish_running(video_id)
    assert client.get(f"/v1/videos/{video_id}").json()["error"] is None
    assert client.get(f"/v1/videos/{video_id}/content").headers["content-type"] == "video/mp4"


def keeps_gos_types(video) -> None:
    """new-api decodes into a struct: whole numbers, strings and objects, or it gives up."""
    assert all(type(video[name]) is int for name in ("progress", "created_at"))
    assert all(video[name] is None or type(video[name]) is int for name in ("completed_at", "expires_at"))
    assert all(type(video[name]) is str for name in ("id", "object", "model", "status", "seconds", "size"))
    if video["error"] is not None:
        assert {name: type(value) for name, value in video["error"].items()} == {"code": str, "message": str}


def test_the_types_are_the_same_at_every_moment(client, house):
    def seen():
        keeps_gos_types(client.get(f"/v1/videos/{video_id}").json())

    video_id = client.post("/v1/videos", json={"prompt": PROMPT, "fps": 7.5}).json()["id"]
    seen()
    house.start(video_id)
    seen()
    house.finish_running(video_id)
    seen()
    video_id = client.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]
    house.store.fail(video_id, Failure(code="out_of_memory", message="Too large."), time.time())
    seen()


def test_a_body_without_files_may_come_urlencoded(large):
    """httpx sends a form so as soon as there is no file in it, which caught LiteLLM once."""
    _, client = large
    fields = {"model": "sora-2", "prompt": PROMPT, "size": "1280x720", "num_frames": "9", "seed": "7"}
    answer = client.post("/v1/videos", data=fields)
    assert (answer.status_code, answer.json()["seed"]) == (200, 7)


def test_objects_may_come_as_text_in_a_form_as_litellm_sends_them(client, house, png):
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    fields = form(
        model="tiny",
        prompt=PROMPT,
        extra_params=json.dumps({"sample_solver": "unipc"}),
        image_reference=json.dumps({"image_url": url}),
        generate_sound="false",
    )
    request = house.store.get(client.post("/v1/videos", files=fields).json()["id"]).request
    assert (request.task, request.sample_solver) == ("i2v", "unipc")
    refused = client.post("/v1/videos", files=form(prompt=PROMPT, lora=json.dumps({"name": "a", "scale": 1})))
    assert "lora" in refused.json()["error"]["message"]


def test_the_absolute_path_that_litellm_sends_as_a_files_name_is_not_read(client, house, png):
    picture = ("input_reference", ("/home/someone/pictures/first.png", png(), "image/png"))
    answer = client.post("/v1/videos", files=[*form(prompt=PROMPT), picture])
    assert house.store.get(answer.json()["id"]).request.first_frame
    assert "someone" not in answer.text


def test_ids_are_short_plain_text_that_survives_being_wrapped(client):
    video_id = client.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]
    assert re.fullmatch("video_[0-9a-f]{32}", video_id)


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_a_gateways_json_is_read_whatever_follows_its_type(client, kind):
    body = json.dumps({"model": "tiny", "prompt": "ein roter Kreis, größer"}, ensure_ascii=False).encode()
    answer = client.post("/v1/videos", content=body, headers={"content-type": kind})
    assert answer.json()["prompt"] == "ein roter Kreis, größer"


def test_sglangs_benchmark_is_served(client, house, png):
    """A form with JSON in `extra_body` and a picture as octets; it reads id, status and peak memory."""
    extra = {"num_inference_steps": 6, "seed": 7, "enable_teacache": False}
    asked = form(model="tiny", prompt=PROMPT, size="64x48", extra_body=json.dumps(extra), num_frames="9")
    picture = ("input_reference", ("1.jpg", png(200, 90), "application/octet-stream"))
    video_id = client.post("/v1/videos", files=[*asked, picture]).json()["id"]
    request = house.store.get(video_id).request
    assert (request.num_inference_steps, request.seed, request.width, request.height) == (6, 7, 64, 48)
    assert request.first_frame
    house.finish(video_id)
    done = client.get(f"/v1/videos/{video_id}").json()
    assert (done["status"], done["peak_memory_mb"] > 0) == ("completed", True)


def test_vllm_omnis_benchmark_is_served(client, house):
    """Every value as Python prints it; it reads stage durations and peak memory, and downloads."""
    values = {"height": 48, "width": 64, "num_frames": 9, "num_inference_steps": 6, "seed": 7, "fps": 16}
    values |= {"enable_frame_interpolation": False, "guidance_scale": 4.0}
    asked = form(prompt=PROMPT, **{name: str(value) for name, value in values.items()})
    created = client.post("/v1/videos", files=asked)
    assert (created.status_code, created.json()["status"]) == (200, "queued")
    video_id = created.json()["id"]
    house.finish(video_id)
    done = client.get(f"/v1/videos/{video_id}").json()
    assert done["stage_durations"].keys() == {"encode", "denoise", "decode"}
    assert all(type(seconds) is float for seconds in done["stage_durations"].values())
    assert done["peak_memory_mb"] > 0
    assert client.get(f"/v1/videos/{video_id}/content").status_code == 200
