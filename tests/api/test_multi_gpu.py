from __future__ import annotations

import base64
import json
import re
import threading
import time
from dataclasses import replace

import pytest

from vitascope import __version__
from vitascope.jobs.job import Failure
from vitascope.launch import InstanceState
from vitascope.request import AttentionCache

PROMPT = "a red circle moving right"
JSON = {"content-type": "application/json"}


@pytest.fixture
def body(png):
    """The least that a submit says; its picture is not of the clip's size."""
    picture = base64.b64encode(png(40, 40)).decode()
    return {"prompt": PROMPT, "image_url": f"data:image/png;base64,{picture}"}


@pytest.fixture
def caching(house):
    """The default model with an attention cache, and with all solvers."""
    card = house.scheduling.served[0]
    rules = replace(card.rules, attention_cache_token_bytes=64, solvers=("unipc", "dpm++", "euler"))
    house.scheduling.served = [replace(card, rules=rules)]


def refused(answer, status, *words):
    assert answer.status_code == status, answer.text
    content = answer.json()
    assert set(content) == {"detail"}
    for word in words:
        assert word in content["detail"]
    return content["detail"]


def submitted(client, body, **fields):
    answer = client.post("/video/submit", json={**body, **fields})
    assert answer.status_code == 202, answer.text
    assert set(answer.json()) == {"requestId"}
    return answer.json()["requestId"]


def status(client, task):
    answer = client.post("/video/status", json={"requestId": task})
    assert answer.status_code == 200, answer.text
    return answer.json()


def request_of(house, task):
    return house.store.get(f"video_{task}").request


# ---- submit


def test_a_submit_is_answered_202_with_32_hexadecimal_digits_once_the_row_is_written(client, house, body):
    task = submitted(client, body)
    assert re.fullmatch("[0-9a-f]{32}", task)
    assert request_of(house, task).prompt == PROMPT
    assert house.scheduling.wakes == 1


def test_what_is_not_said_is_the_models_own_value(client, house, body):
    request = request_of(house, submitted(client, body))
    assert (request.width, request.height, request.num_frames) == (48, 32, 9)
    assert (request.num_inference_steps, request.guidance_scale, request.flow_shift) == (4, 5.0, 3.0)
    assert request.attention_cache is None
    assert request.first_frame is not None


def test_auto_and_nulls_are_the_models_own_values_too(client, house, body):
    nulls = {"seed": None, "negative_prompt": None, "num_frames": None, "sample_solver": None}
    request = request_of(house, submitted(client, body, image_size="auto", **nulls))
    assert (request.width, request.height, request.num_frames) == (48, 32, 9)


def test_every_field_reaches_the_job(client, house, body, caching):
    fields = {
        "model": "tiny",
        "image_size": "64*48",
        "negative_prompt": "blurry",
        "seed": 2**31 - 1,
        "num_frames": 25,
        "guidance_scale": 3.5,
        "infer_steps": 40,
        "sample_shift": 7,
        "sample_solver": "dpmpp",
        "use_attentioncache": True,
        "start_step": 10,
        "attentioncache_interval": 3,
        "end_step": 30,
        "t5_fsdp": False,
        "dit_fsdp": False,
        "vae_parallel": False,
        "cfg_size": 1,
        "ulysses_size": 1,
    }
    request = request_of(house, submitted(client, body, **fields))
    assert (request.width, request.height, request.num_frames, request.seed) == (64, 48, 25, 2**31 - 1)
    assert (request.negative_prompt, request.guidance_scale) == ("blurry", 3.5)
    assert (request.num_inference_steps, request.flow_shift, request.sample_solver) == (40, 7.0, "dpm++")
    assert request.attention_cache == AttentionCache(start_step=10, interval=3, end_step=30)


def test_the_cache_has_the_dialects_defaults_and_acts_only_where_it_is_asked_for(
    client, house, body, caching
):
    request = request_of(house, submitted(client, body, use_attentioncache=True, infer_steps=40))
    assert request.attention_cache == AttentionCache(start_step=12, interval=4, end_step=37)
    request = request_of(house, submitted(client, body, use_attentioncache=False, start_step=1))
    assert request.attention_cache is None


def test_a_cache_that_spares_no_step_is_told_in_the_warnings(client, house, body, caching):
    task = submitted(client, body, use_attentioncache=True, infer_steps=20, start_step=25)
    assert any("spares none of the 20 steps" in w for w in house.store.get(f"video_{task}").warnings)


@pytest.mark.parametrize(("given", "ours"), [("unipc", "unipc"), ("dpmpp", "dpm++"), ("euler", "euler")])
def test_solvers_go_by_the_dialects_names(client, house, body, caching, given, ours):
    assert request_of(house, submitted(client, body, sample_solver=given)).sample_solver == ours


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("seed", 0, 2147483647),
        ("guidance_scale", 1, 20),
        ("infer_steps", 20, 50),
        ("sample_shift", 0.1, 10),
        ("num_frames", 25, 33),
        ("prompt", "p" * 10, "p" * 500),
        ("negative_prompt", "", "n" * 500),
    ],
)
def test_both_ends_of_every_range_are_taken(client, body, field, low, high):
    for value in (low, high):
        submitted(client, {**body, field: value})


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"prompt": "too short"}, "prompt"),
        ({"prompt": "p" * 501}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"image_url": None}, "image_url"),
        ({"negative_prompt": "n" * 501}, "negative_prompt"),
        ({"seed": -1}, "seed"),
        ({"seed": 2147483648}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"num_frames": 23}, "num_frames"),
        ({"num_frames": 121}, "num_frames"),
        ({"num_frames": "many"}, "num_frames"),
        ({"guidance_scale": 0.9}, "guidance_scale"),
        ({"guidance_scale": 20.1}, "guidance_scale"),
        ({"infer_steps": 19}, "infer_steps"),
        ({"infer_steps": 101}, "infer_steps"),
        ({"sample_shift": 0.05}, "sample_shift"),
        ({"sample_shift": 10.5}, "sample_shift"),
        ({"sample_solver": "ddim"}, "sample_solver"),
        ({"start_step": -1}, "start_step"),
        ({"attentioncache_interval": 0}, "attentioncache_interval"),
        ({"end_step": 0}, "end_step"),
        ({"use_attentioncache": True, "start_step": 20, "end_step": 19}, "end_step is 19"),
        ({"use_attentioncache": "perhaps"}, "use_attentioncache"),
        ({"cfg_size": 0}, "cfg_size"),
        ({"ulysses_size": 0}, "ulysses_size"),
        ({"t5_fsdp": "perhaps"}, "t5_fsdp"),
        ({"image_size": "64x48"}, "image_size"),
        ({"image_size": "0*48"}, "image_size"),
        ({"image_size": "64*44"}, "multiples of 8"),
        ({"image_size": "large"}, "image_size"),
        ({"model": 5}, "model"),
        ({"seed": True}, "seed: Input should be a number, not a boolean"),
        ({"guidance_scale": True}, "guidance_scale"),
        ({"guidance_scale": "NaN"}, "guidance_scale"),
        ({"infer_step": 30}, "did you mean 'infer_steps'"),
        ({"\ud800": 1}, "Unknown field"),
    ],
)
def test_a_field_outside_its_range_is_refused_by_name(client, house, body, fields, word):
    refused(client.post("/video/submit", content=json.dumps({**body, **fields}), headers=JSON), 422, word)
    assert house.store.num_waiting() == 0


@pytest.mark.parametrize("missing", ["prompt", "image_url"])
def test_prompt_and_picture_are_required(client, body, missing):
    del body[missing]
    refused(client.post("/video/submit", json=body), 422, missing)


def test_every_wrong_field_is_named_at_once(client, body):
    detail = refused(client.post("/video/submit", json={**body, "seed": -1, "infer_steps": 1}), 422)
    assert "seed" in detail
    assert "infer_steps" in detail


@pytest.mark.parametrize(
    ("given", "code", "advice"),
    [
        (24, 400, "use 25."),
        (30, 400, "use 29 or 33."),
        (81, 400, "use 33."),
        (23, 422, "use 25."),
        (121, 422, "use 33."),
    ],
)
def test_advice_on_lengths_fits_the_dialect_and_the_model(client, body, given, code, advice):
    assert refused(client.post("/video/submit", json={**body, "num_frames": given}), code).endswith(advice)


def test_a_model_of_short_clips_takes_its_own_length_only(client, house, body):
    card = house.scheduling.served[0]
    house.scheduling.served = [replace(card, rules=replace(card.rules, max_frames=17))]
    refused(client.post("/video/submit", json={**body, "num_frames": 25}), 400, "leave it out for 9")
    submitted(client, body)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_size": "1280*720"}, ("image_size:", "height is 720", "at most 256")),
        ({"image_size": "40*48"}, ("image_size:", "width is 40", "multiple of 16")),
        ({"infer_steps": 60}, ("infer_steps:", "from 1 to 50")),
        ({"sample_solver": "dpmpp"}, ("sample_solver", "'unipc'")),
        ({"use_attentioncache": True}, ("tiny has no attention cache",)),
        ({"model": "Wan2.1-I2V-14B-720P"}, ("not served here", "tiny")),
        ({"model": "words"}, ("image_url:", "cannot generate from a first frame")),
        ({"ulysses_size": 8}, ("ulysses_size is 8", "launched with 1")),
        ({"cfg_size": 2}, ("cfg_size is 2",)),
        ({"t5_fsdp": True}, ("t5_fsdp is true", "launched with false")),
        ({"dit_fsdp": True}, ("dit_fsdp",)),
        ({"vae_parallel": True}, ("vae_parallel",)),
        ({"image_url": "https://example.com/a.png"}, ("fetches no remote media",)),
        ({"image_url": "/etc/passwd"}, ("paths are not read",)),
        ({"image_url": "file:///etc/passwd"}, ("reads no local files",)),
        ({"image_url": ""}, ("data: URL",)),
        ({"image_url": "data:image/png;base64,AAAA"}, ("picture",)),
        ({"image_url": "data:image/png;base64,?"}, ("base64",)),
    ],
)
def test_what_the_model_or_the_launch_cannot_do_is_refused_with_a_reason(client, house, body, fields, words):
    refused(client.post("/video/submit", json={**body, **fields}), 400, *words)
    assert house.store.num_waiting() == 0


def test_a_picture_elsewhere_goes_through_the_servers_one_guard(open_house, body, tmp_path, png):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png(40, 40))
    house, client = open_house(allow_remote_media=True, allowed_local_media_path=tmp_path / "pictures")
    inside = {**body, "image_url": "http://127.0.0.1:8000/health"}
    refused(client.post("/video/submit", json=inside), 400, "public internet")
    near = submitted(client, body, image_url=f"file://{tmp_path}/pictures/a.png")
    assert request_of(house, near).first_frame == request_of(house, submitted(client, body)).first_frame


def test_a_model_goes_by_its_alias_too(open_house, body):
    house, client = open_house(model_alias=("Wan2.1-I2V-14B-720P",))
    task = submitted(client, body, model="Wan2.1-I2V-14B-720P")
    assert request_of(house, task).model == "tiny"


def test_full_slots_are_answered_429_with_the_time_to_wait(open_house, body):
    _, client = open_house(max_queue=1)
    submitted(client, body)
    answer = client.post("/video/submit", json=body)
    refused(answer, 429, "full")
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_a_model_that_is_still_loading_is_answered_503(client, house, body):
    house.scheduling.served = []
    house.launching.add("tiny", InstanceState.LOADING)
    answer = client.post("/video/submit", json=body)
    refused(answer, 503, "still being loaded")
    assert "retry-after" in answer.headers


def test_a_missing_key_is_refused_in_the_dialects_shape(open_house, body):
    _, client = open_house(api_key="secret")
    refused(client.post("/video/submit", json=body), 401)


def test_bodies_that_are_no_json_object_are_refused(client):
    for content in ("[]", "{", '{"prompt": NaN}', '{"a": 1, "a": 2}'):
        refused(client.post("/video/submit", content=content, headers=JSON), 400)
    refused(client.post("/video/submit", content="x", headers={"content-type": "text/plain"}), 415)


def test_an_upload_is_refused_with_what_to_send_instead(client, body):
    answer = client.post("/video/submit", data={"prompt": PROMPT}, files={"image_url": b"png"})
    refused(answer, 422, "image_url", "data: URL")


# ---- status


def test_a_task_that_waits_has_its_place_in_the_queue(client, body):
    first, second = submitted(client, body), submitted(client, body)
    assert [status(client, task)["queue_position"] for task in (first, second)] == [1, 2]
    told = status(client, first)
    assert abs(told.pop("created_at") - time.time()) < 60
    assert abs(told.pop("updated_at") - time.time()) < 60
    assert told == {
        "status": "InQueue", "reason": None, "results": None, "queue_position": 1, "progress": 0.0
    }  # fmt: skip


def test_a_task_runs_and_succeeds_with_a_working_url(client, house, body, clip):
    task = submitted(client, body)
    house.start(f"video_{task}", step=2)
    told = status(client, task)
    assert (told["status"], told["progress"], told["queue_position"]) == ("InProgress", 0.5, 0)
    house.finish_running(f"video_{task}")
    told = status(client, task)
    assert (told["status"], told["progress"], told["reason"]) == ("Succeed", 1.0, None)
    assert told["created_at"] <= told["updated_at"]
    assert told["results"] == {
        "video_url": f"http://127.0.0.1:8000/videos/{task}.mp4",
        "video_path": None,
        "file_size": len(clip),
        "duration": 1.125,
    }
    answer = client.get(told["results"]["video_url"])
    assert (answer.status_code, answer.content) == (200, clip)
    assert answer.headers["content-type"] == "video/mp4"


def test_a_failure_says_why(client, house, body):
    task = submitted(client, body)
    failure = Failure(code="out_of_memory", message="The device ran out of memory.")
    house.store.fail(f"video_{task}", failure, time.time())
    told = status(client, task)
    assert (told["status"], told["reason"], told["results"]) == ("Failed", failure.message, None)


def test_an_expired_task_keeps_its_status_and_has_no_results(client, house, body):
    succeeded, cancelled = submitted(client, body), submitted(client, body)
    house.finish(f"video_{succeeded}")
    client.post("/video/cancel", json={"requestId": cancelled})
    for task in (succeeded, cancelled):
        house.store.expire(f"video_{task}")
    told = status(client, succeeded)
    assert (told["status"], told["results"]) == ("Succeed", None)
    assert "removed" in told["reason"]
    assert status(client, cancelled)["status"] == "Cancelled"
    refused(client.get(f"/videos/{succeeded}.mp4"), 404)


@pytest.mark.parametrize("route", ["status", "cancel"])
def test_an_unknown_id_is_404_and_a_malformed_one_422(client, submitted, route):
    def ask(content):
        return client.post(f"/video/{route}", content=json.dumps(content), headers=JSON)

    for unknown in ("0" * 32, "G" * 32, "%" * 32, "../" * 10 + "ab"):
        refused(ask({"requestId": unknown}), 404, "no task")
    for malformed in ("0" * 31, "0" * 33, submitted, "\ud800" * 32, 5, None):
        refused(ask({"requestId": malformed}), 422, "requestId")
    refused(ask({}), 422, "requestId")
    refused(ask({"request_id": "0" * 32}), 422, "requestId")


def test_a_deleted_task_is_unknown(client, body):
    task = submitted(client, body)
    client.delete(f"/v1/videos/video_{task}")
    refused(client.post("/video/status", json={"requestId": task}), 404)


# ---- cancel


def test_a_waiting_task_is_cancelled_at_once(client, house, body):
    task = submitted(client, body)
    assert client.post("/video/cancel", json={"requestId": task}).json() == {"status": "Cancelled"}
    assert status(client, task)["status"] == "Cancelled"
    assert house.scheduling.wakes == 2


def ended_by(house, task, end):
    """Let a worker obey the cancel as soon as it is asked for."""

    def obey():
        while not house.store.get(f"video_{task}").cancel_requested:
            time.sleep(0.001)
        end(house.store.get(f"video_{task}"))

    worker = threading.Thread(target=obey)
    worker.start()
    return worker


@pytest.fixture
def patient(monkeypatch):
    """A cancel waits for as long as it takes."""
    monkeypatch.setattr("vitascope.api.multi_gpu.CANCEL_WAIT_S", 600.0)


@pytest.mark.usefixtures("patient")
def test_a_running_task_is_cancelled_once_the_device_is_free(client, house, body):
    task = submitted(client, body)
    token = house.start(f"video_{task}")
    worker = ended_by(house, task, lambda job: house.store.cancelled(job.id, token, time.time()))
    assert client.post("/video/cancel", json={"requestId": task}).json() == {"status": "Cancelled"}
    worker.join()
    assert status(client, task)["status"] == "Cancelled"


@pytest.mark.usefixtures("patient")
def test_a_task_that_finishes_before_it_is_stopped_has_finished(client, house, body):
    task = submitted(client, body)
    house.start(f"video_{task}")
    worker = ended_by(house, task, lambda job: house.finish_running(job.id))
    assert client.post("/video/cancel", json={"requestId": task}).json() == {"status": "Already finished"}
    worker.join()
    assert status(client, task)["status"] == "Succeed"


def test_a_slow_step_does_not_hold_the_answer_back(client, house, body, monkeypatch):
    monkeypatch.setattr("vitascope.api.multi_gpu.CANCEL_WAIT_S", 0.0)
    task = submitted(client, body)
    house.start(f"video_{task}")
    assert client.post("/video/cancel", json={"requestId": task}).json() == {"status": "Cancelled"}
    assert house.store.get(f"video_{task}").cancel_requested


@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled"])
def test_a_finished_task_is_left_as_it_is(client, house, body, how):
    task = submitted(client, body)
    if how == "succeeded":
        house.finish(f"video_{task}")
    elif how == "failed":
        house.store.fail(f"video_{task}", Failure(code="x", message="y"), time.time())
    else:
        client.post("/video/cancel", json={"requestId": task})
    before = status(client, task)
    assert client.post("/video/cancel", json={"requestId": task}).json() == {"status": "Already finished"}
    assert status(client, task) == before


# ---- the clip


def test_a_range_and_a_head_of_the_clip_are_answered(client, house, body, clip):
    task = submitted(client, body)
    house.finish(f"video_{task}")
    part = client.get(f"/videos/{task}.mp4", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, clip[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(clip)}"
    head = client.head(f"/videos/{task}.mp4")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(clip)))
    refused(client.get(f"/videos/{task}.mp4", headers={"range": "bytes=5000-"}), 416)


def test_a_clip_that_is_not_there_is_404(client, house, body):
    task = submitted(client, body)
    refused(client.get(f"/videos/{task}.mp4"), 404, "InQueue")
    house.start(f"video_{task}")
    refused(client.get(f"/videos/{task}.mp4"), 404, "InProgress")
    for name in ("0" * 32 + ".mp4", "x.mp4", f"{task}.webm", task, "..%2F..%2Fjobs.sqlite3.mp4"):
        refused(client.get(f"/videos/{name}"), 404)


def test_the_routes_are_in_the_openapi_document_with_their_422(client):
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/video/submit"]["post"]
    assert {"202", "400", "422", "429"} <= set(operation["responses"])
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    frames = schema["properties"]["num_frames"]
    assert (frames["minimum"], frames["maximum"]) == (24, 120)
    assert set(document["paths"]) >= {"/video/status", "/video/cancel", "/videos/{request_id}.mp4"}


def test_the_banner_leads_to_places_that_are_there(client):
    banner = client.get("/").json()
    assert (banner.pop("service"), banner.pop("version")) == ("vitascope", __version__)
    assert set(banner) == {"docs", "openapi", "models", "health"}
    assert {client.get(path).status_code for path in banner.values()} == {200}
