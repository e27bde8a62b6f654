from __future__ import annotations

import base64
import json
import threading
import time

import pytest

from vitascope.api.fields import FIELDS
from vitascope.errors import StoreUnavailable
from vitascope.jobs.job import Failure

SYNC = "/v1/videos/sync"
PROMPT = {"prompt": "a red circle"}

# What vLLM-Omni documents as form fields of a create.
DOCUMENTED = """
    prompt input_reference input_references image_reference video_reference audio_reference control_reference
    control_type model seconds size width height num_frames fps aspect_ratio short_edge
    num_outputs_per_prompt quality num_inference_steps guidance_scale guidance_scale_2 true_cfg_scale
    boundary_ratio flow_shift seed negative_prompt user generate_sound sound_duration start_time_seconds
    enable_frame_interpolation frame_interpolation_exp frame_interpolation_scale
    frame_interpolation_model_path lora extra_params return_stage_metrics source_video source_audio
    video_noise_mask audio_noise_mask video_params timeline_guides guide_files preencode_mp4
    preencode_batch_frames video_codec_options sample_solver last_input_reference
"""


def refusal(answer, status=400):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


@pytest.mark.parametrize("name", DOCUMENTED.split())
def test_every_documented_field_is_known(name):
    assert name in FIELDS


def test_sync_answers_the_clip_with_its_headers_and_leaves_nothing(house, waiting_call, clip):
    answer, [job_id] = waiting_call(SYNC, files={"prompt": (None, "a red circle"), "seed": (None, "7")})
    assert house.store.get(job_id).request.seed == 7
    house.finish(job_id)
    response = answer.result(600)
    assert (response.status_code, response.content) == (200, clip)
    headers = response.headers
    assert (headers["content-type"], headers["content-length"]) == ("video/mp4", str(len(clip)))
    assert headers["x-request-id"]
    assert (headers["x-model"], headers["x-inference-time-s"]) == ("tiny", "1.750")
    assert headers["x-stage-durations"] == '{"encode":0.25,"denoise":1.0,"decode":0.5}'
    assert headers["x-peak-memory-mb"] == "2.000"
    assert "x-warnings" not in headers
    assert house.store.waited_for() == []
    assert house.store.page(after=None, limit=9, order="asc")[0] == []
    assert list(house.artifacts.keys()) == []


def test_what_was_waited_for_goes_as_soon_as_the_store_answers_again(house, waiting_call, monkeypatch):
    answer, [job_id] = waiting_call(SYNC, json=PROMPT)
    delete, is_there, gone = house.store.delete, threading.Event(), threading.Event()

    def delete_if_there(*args):
        if not is_there.is_set():
            raise StoreUnavailable("it is down")
        job = delete(*args)
        gone.set()
        return job

    monkeypatch.setattr(house.store, "delete", delete_if_there)
    house.finish(job_id)
    assert answer.result(600).status_code == 200
    assert [job.id for job in house.store.waited_for()] == [job_id]
    is_there.set()
    assert gone.wait(600)
    assert house.store.waited_for() == []


def test_sync_tells_what_had_no_effect(house, waiting_call):
    body = {**PROMPT, "boundary_ratio": 0.875, "guidance_scale": 3, "guidance_scale_2": 3.0}
    answer, [job_id] = waiting_call(SYNC, json=body)
    house.finish(job_id)
    warnings = json.loads(answer.result(600).headers["x-warnings"])
    assert [warning.split()[0] for warning in warnings] == ["guidance_scale_2", "boundary_ratio"]


@pytest.mark.parametrize("more", [{}, {"guidance_scale": 3, "guidance_scale_2": 4}])
def test_a_border_between_transformers_is_refused_where_there_is_one(client, house, more):
    answer = client.post("/v1/videos", json={**PROMPT, "boundary_ratio": 0.875, **more})
    assert refusal(answer)["param"] in {"boundary_ratio", "guidance_scale_2"}
    assert house.store.waiting() == []


def test_sync_is_a_listed_job_while_it_waits(client, house, waiting_call):
    answer, [job_id] = waiting_call(SYNC, json=PROMPT)
    assert client.get(f"/v1/videos/{job_id}").json()["status"] == "queued"
    house.finish(job_id)
    assert answer.result(600).status_code == 200


@pytest.mark.parametrize(
    ("code", "status"),
    [("out_of_memory", 500), ("worker_lost", 500), ("invalid_media", 400), ("new_one", 500)],
)
def test_a_failed_job_is_answered_with_its_error_and_leaves_nothing(house, waiting_call, code, status):
    answer, [job_id] = waiting_call(SYNC, json=PROMPT)
    house.store.fail(job_id, Failure(code=code, message="It did not work."), time.time())
    error = refusal(answer.result(600), status)
    assert (error["code"], error["message"]) == (code, "It did not work.")
    assert house.store.page(after=None, limit=9, order="asc")[0] == []


@pytest.mark.parametrize("stop", ["cancel", "delete"])
def test_a_job_that_somebody_stops_ends_the_wait(client, house, waiting_call, stop):
    answer, [job_id] = waiting_call(SYNC, json=PROMPT)
    url = f"/v1/videos/{job_id}"
    assert (client.post(f"{url}/cancel") if stop == "cancel" else client.delete(url)).status_code == 200
    assert refusal(answer.result(600))["code"] == "cancelled"
    assert house.store.waited_for() == []


def test_a_client_that_leaves_cancels_its_job(house, leaving_call):
    leaving_call(SYNC, PROMPT)
    assert house.store.waited_for() == []
    assert house.store.waiting() == []
    assert house.scheduling.wakes == 2


def test_a_server_that_stops_tells_those_who_wait(open_house):
    house, client = open_house()
    house.services.stopping.set()
    answer = client.post(SYNC, json=PROMPT)
    assert "stopping" in refusal(answer, 503)["message"]
    assert answer.headers["retry-after"]
    assert house.store.waited_for() == []


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "prompt"), ({**PROMPT, "size": "640x"}, "size"), ({**PROMPT, "num_frames": 8}, "num_frames")],
)
def test_sync_refuses_as_create_does(client, house, body, param):
    assert refusal(client.post(SYNC, json=body))["param"] == param
    assert house.store.waited_for() == []


def test_sync_refuses_a_key_that_it_could_not_honour(client, house):
    answer = client.post(SYNC, json=PROMPT, headers={"Idempotency-Key": "again"})
    error = refusal(answer)
    assert error["param"] == "Idempotency-Key"
    assert "POST /v1/videos honours it" in error["message"]
    assert house.store.waited_for() == []


def test_sync_is_refused_when_the_queue_is_full(open_house):
    house, client = open_house(max_queue=1)
    client.post("/v1/videos", json=PROMPT)
    assert refusal(client.post(SYNC, json=PROMPT), 429)["code"] == "rate_limit_exceeded"
    assert house.store.waited_for() == []


def test_another_guidance_for_a_second_transformer_is_refused_where_there_is_one(client):
    error = refusal(client.post(SYNC, json={**PROMPT, "guidance_scale": 3, "guidance_scale_2": 4}))
    assert error["param"] == "guidance_scale_2"


@pytest.mark.parametrize("name", ["control_reference", "source_video", "input_references", "guide_files"])
def test_an_upload_that_no_model_takes_is_refused_with_what_would_do(client, name):
    error = refusal(client.post("/v1/videos", data=PROMPT, files={name: b"x"}))
    assert error["param"] == name
    assert "cannot honour" in error["message"]


def test_a_reference_may_be_a_json_list_in_a_form(client, png):
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    one = {**PROMPT, "image_reference": json.dumps([{"image_url": url}])}
    assert client.post("/v1/videos", data=one).status_code == 200
    two = {**PROMPT, "image_reference": json.dumps([{"image_url": url}] * 2)}
    assert refusal(client.post("/v1/videos", data=two))["param"] == "input_reference"
    for bad in ("[1", "[1]"):
        answer = client.post("/v1/videos", data={**PROMPT, "image_reference": bad})
        assert "image_reference" in refusal(answer)["param"]


def test_a_solver_may_come_in_extra_params(client, house):
    fields = {**PROMPT, "extra_params": json.dumps({"sample_solver": "unipc"})}
    video_id = client.post("/v1/videos", data=fields).json()["id"]
    assert house.store.get(video_id).request.sample_solver == "unipc"
    fields["extra_params"] = json.dumps({"sample_solver": "magic"})
    assert refusal(client.post("/v1/videos", data=fields))["param"] == "sample_solver"


# The forms of its documented text-to-video and image-to-video scripts; only the size is ours.
SCRIPT = {
    "seconds": "2", "size": "64x48", "negative_prompt": "色调艳丽 过曝 静态", "fps": "16",
    "num_inference_steps": "40", "guidance_scale": "4.0", "guidance_scale_2": "4.0",
    "boundary_ratio": "0.875", "flow_shift": "5.0", "seed": "42",
}  # fmt: skip
LONGHAND = {**SCRIPT, "width": "64", "height": "48", "num_frames": "33"}
del LONGHAND["size"], LONGHAND["seconds"]


@pytest.mark.parametrize("fields", [SCRIPT, LONGHAND], ids=["size and seconds", "width, height, num_frames"])
@pytest.mark.parametrize("with_picture", [False, True], ids=["text", "picture"])
def test_its_scripts_forms_are_taken_with_another_size(client, house, png, fields, with_picture):
    form = {name: (None, value) for name, value in {**PROMPT, **fields}.items()}
    if with_picture:
        form |= {"input_reference": ("bear.png", png(200, 90), "image/png"), "flow_shift": (None, "12.0")}
    answer = client.post("/v1/videos", files=form, headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    request = house.store.get(answer.json()["id"]).request
    assert (request.width, request.height, request.num_frames, request.fps) == (64, 48, 33, 16)
    assert (request.num_inference_steps, request.guidance_scale, request.seed) == (40, 4.0, 42)
    assert request.task == ("i2v" if with_picture else "t2v")
    told = [warning.split()[0] for warning in answer.json()["warnings"]]
    assert {"guidance_scale_2", "boundary_ratio"} <= set(told)
