from __future__ import annotations

import base64
import json
import time

import pytest

from vitascope.api.calls import MAX_ENDED, Calls
from vitascope.errors import InvalidRequest
from vitascope.jobs.job import Failure
from vitascope.launch import InstanceState

TEXT = "/v1/video/generations"
IMAGE, FLF = f"{TEXT}/image", f"{TEXT}/flf"
CALL = {"model": "tiny", "prompt": "a red circle", "n": 1, "kwargs": "{}"}


def body(kwargs=None, **fields):
    """A call as the client writes it: kwargs are JSON text."""
    return {**CALL, "kwargs": json.dumps(kwargs or {}), **fields}


def refusal(answer, status=400):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}
    return answer.json()["detail"]


def picture(data, name="image"):
    return {name: ("image", data, "application/octet-stream")}


def nothing_is_left(house):
    assert house.store.waited_for() == []
    assert house.store.page(after=None, limit=9, order="asc")[0] == []
    return True


def test_a_clip_comes_as_base64_and_leaves_nothing(house, waiting_call, clip):
    answer, [job_id] = waiting_call(TEXT, json=body({"num_frames": 5, "seed": 7, "negative_prompt": "no"}))
    request = house.store.get(job_id).request
    assert (request.num_frames, request.seed, request.negative_prompt) == (5, 7, "no")
    house.finish(job_id)
    response = answer.result(600)
    assert response.status_code == 200
    made = response.json()
    assert isinstance(made.pop("created"), int)
    assert made == {"data": [{"url": None, "b64_json": base64.b64encode(clip).decode()}]}
    assert nothing_is_left(house)
    assert list(house.artifacts.keys()) == []


@pytest.mark.parametrize("size", [0, 1, 2, 3, 262_143, 262_144, 600_001])
def test_base64_is_whole_whatever_the_length(house, waiting_call, size):
    data = bytes(i % 251 for i in range(size))
    answer, [job_id] = waiting_call(TEXT, json=body())
    house.finish(job_id, data)
    assert base64.b64decode(answer.result(600).json()["data"][0]["b64_json"], validate=True) == data


def test_kwargs_may_be_an_object_and_the_fields_may_stand_beside_it(house, waiting_call):
    answer, [job_id] = waiting_call(TEXT, json=body(n="1") | {"kwargs": {"fps": 4}, "negative_prompt": "no"})
    request = house.store.get(job_id).request
    assert (request.fps, request.negative_prompt) == (4, "no")
    house.finish(job_id)
    assert answer.result(600).status_code == 200


@pytest.mark.parametrize("kwargs", [{"seed": -1}, {"seed": None}, {}])
def test_without_a_seed_one_is_drawn(house, waiting_call, kwargs):
    answer, [job_id] = waiting_call(TEXT, json=body(kwargs, prompt=["a red circle"]))
    assert house.store.get(job_id).request.seed >= 0
    house.finish(job_id)
    assert answer.result(600).status_code == 200


def test_n_clips_have_following_seeds_and_come_in_order(house, waiting_call, clip):
    answer, [job_id] = waiting_call(TEXT, json=body({"seed": 5}, n=3))
    request = house.store.get(job_id).request
    assert (request.seed, request.num_outputs) == (5, 3)
    house.finish(job_id)
    clips = [base64.b64decode(item["b64_json"]) for item in answer.result(600).json()["data"]]
    assert clips == [clip, clip + b"1", clip + b"2"]
    assert nothing_is_left(house)
    assert list(house.artifacts.keys()) == []


def test_a_failure_ends_the_call(house, waiting_call):
    answer, [job_id] = waiting_call(TEXT, json=body(n=2))
    house.store.fail(job_id, Failure(code="out_of_memory", message="Too large."), time.time())
    assert refusal(answer.result(600), 500) == "Too large."
    assert nothing_is_left(house)


@pytest.mark.parametrize(
    ("kwargs", "said"), [({"seed": 2**63 - 2}, "seed"), ({"num_frames": 6}, "num_frames")]
)
def test_n_clips_that_cannot_be_made_are_refused(client, house, kwargs, said):
    assert said in refusal(client.post(TEXT, json=body(kwargs, n=3)))
    assert nothing_is_left(house)


def test_a_call_needs_room_in_the_queue(open_house):
    house, client = open_house(max_queue=1)
    client.post("/v1/videos", json={"prompt": "a red circle"})
    answer = client.post(TEXT, json=body(n=3))
    assert "queue is full" in refusal(answer, 429)
    assert answer.headers["retry-after"]
    assert house.store.waited_for() == []


def test_a_url_is_on_this_server_and_the_clip_stays(client, house, waiting_call, clip):
    answer, [job_id] = waiting_call(TEXT, json=body({"response_format": "url"}))
    house.finish(job_id)
    [made] = answer.result(600).json()["data"]
    assert made == {"url": f"http://127.0.0.1:8000/v1/videos/{job_id}/content", "b64_json": None}
    assert client.get(made["url"]).content == clip
    assert not house.store.get(job_id).waited_for


def test_each_of_n_clips_has_a_url(client, house, waiting_call, clip):
    answer, [job_id] = waiting_call(TEXT, json=body({"response_format": "url"}, n=2))
    house.finish(job_id)
    urls = [made["url"] for made in answer.result(600).json()["data"]]
    assert [client.get(url).content for url in urls] == [clip, clip + b"1"]


def test_a_picture_sets_the_shape_of_the_clip_and_the_answer_says_so(house, waiting_call, png):
    answer, [job_id] = waiting_call(IMAGE, data=body(), files=picture(png(200, 100)))
    request = house.store.get(job_id).request
    assert (request.width, request.height, request.task) == (48, 16, "i2v")
    house.finish(job_id)
    [warning] = answer.result(600).json()["warnings"]
    assert warning.startswith("The picture is 200x100 and the clip 48x16")


@pytest.mark.parametrize(
    ("kwargs", "size"),
    [
        ({}, (48, 32)),
        ({"width": 64, "height": 32}, (64, 32)),
        ({"max_area": [64, 64]}, (64, 48)),
        ({"max_area": "32*32"}, (32, 16)),
    ],
)
def test_the_size_comes_from_the_picture_the_area_or_the_caller(house, waiting_call, png, kwargs, size):
    answer, [job_id] = waiting_call(IMAGE, data=body(kwargs), files=picture(png(48, 32)))
    request = house.store.get(job_id).request
    assert (request.width, request.height) == size
    house.finish(job_id)
    assert answer.result(600).status_code == 200


def test_two_pictures_make_a_clip_between_them(house, waiting_call, png):
    files = picture(png(), "first_frame") | picture(png(96, 64, (0, 0, 9)), "last_frame")
    answer, [job_id] = waiting_call(FLF, data=body(negative_prompt="no"), files=files)
    request = house.store.get(job_id).request
    assert (request.task, request.negative_prompt) == ("flf2v", "no")
    assert request.first_frame != request.last_frame
    house.finish(job_id)
    assert answer.result(600).status_code == 200


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", "b"]}, "one call for each"),
        ({"n": 0}, "from 1 to 10"),
        ({"n": 11}, "from 1 to 10"),
        ({"n": "two"}, "not an integer"),
        ({"kwargs": "{"}, "kwargs is not valid JSON"),
        ({"kwargs": "[]"}, "must be a JSON object"),
        ({"kwargs": 3}, "kwargs"),
        ({"kwargs": {"num_framse": 5}}, "did you mean 'num_frames'"),
        ({"kwargs": {"generator": 1}}, "Unknown parameter: 'generator'"),
        ({"kwargs": {"height": 33}}, "height is 33"),
        ({"kwargs": {"seed": -2}}, "seed is -2"),
        ({"kwargs": {"response_format": "mp4"}}, "'b64_json' and 'url'"),
        ({"kwargs": {"request_id": 7}}, "request_id"),
        ({"kwargs": {"request_id": ""}}, "1 to 200 characters"),
        ({"kwargs": {"n": 2}}, "beside kwargs"),
        ({"kwargs": {"prompt": "another"}}, "given twice"),
        ({"kwargs": {"max_area": [32, 32]}}, "Unknown parameter: 'max_area'"),
        ({"kwargs": {"output_path": "x.mp4"}}, "clients choose none"),
        ({"colour": "red"}, "Unknown parameter: 'colour'"),
    ],
)
def test_a_call_that_cannot_be_honoured_is_refused_with_a_detail(client, house, fields, said):
    assert said in refusal(client.post(TEXT, json={**CALL, **fields}))
    assert nothing_is_left(house)


@pytest.mark.parametrize(
    ("kwargs", "files", "said"),
    [
        ({}, {}, "Missing required file: 'image'"),
        ({}, {"image": b"no picture"}, "no JPEG, PNG or WebP"),
        ({"max_area": "big"}, None, "max_area is a height and a width"),
        ({"max_area": [0, 9]}, None, "two positive numbers"),
        ({"max_area": [9999, 9999]}, None, "height is"),
        ({"max_area": [32, 32], "width": 32}, None, "max_area contradicts"),
        ({"resize_mode": "stretch"}, None, "'crop' and 'pad'"),
        ({}, {"video": b"x", "image": b"x"}, "no driving video"),
        ({}, {"mask": b"x", "image": b"x"}, "mask"),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused_with_a_detail(client, house, png, kwargs, files, said):
    files = picture(png()) if files is None else files
    assert said in refusal(client.post(IMAGE, data=body(kwargs), files=files))
    assert nothing_is_left(house)


def test_a_picture_for_a_model_that_takes_none_is_refused(client, png):
    assert "words" in refusal(client.post(IMAGE, data=body(model="words"), files=picture(png())))


@pytest.mark.parametrize("path", [TEXT, IMAGE, FLF])
def test_an_unknown_model_is_404(client, path):
    assert "served are: tiny, words" in refusal(client.post(path, json=body(model="nope")), 404)


def test_what_the_framework_refuses_is_a_detail_too(client):
    assert "Not allowed to GET" in refusal(client.get(TEXT), 405)
    assert refusal(client.get("/v1/video/nothing"), 404)
    assert refusal(client.post(TEXT, content=b"x", headers={"content-type": "text/plain"}), 415)
    assert refusal(client.post("/token", json={"username": "u", "password": "p"}), 404)


def test_no_worker_yet_is_503_with_a_detail(client, house):
    house.scheduling.served = []
    house.launching.add("tiny", InstanceState.LOADING)
    assert "being loaded" in refusal(client.post(TEXT, json=body()), 503)


def test_a_client_that_leaves_cancels_all_its_clips(house, leaving_call):
    leaving_call(TEXT, body({"request_id": "r"}, n=3))
    assert nothing_is_left(house)


def test_progress_is_that_of_all_clips_and_stays_known_after_the_end(client, house, waiting_call):
    answer, [job_id] = waiting_call(TEXT, json=body({"request_id": "r 1"}, n=2))
    house.start(job_id, step=1)
    seen = client.get("/v1/requests/r%201/progress").json()
    assert (seen["progress"], seen["eta_seconds"]) == (0.25, 4.0)
    assert seen["elapsed_seconds"] > 0
    house.finish_running(job_id)
    answer.result(600)
    ended = client.get("/v1/requests/r%201/progress").json()
    assert (ended["progress"], ended["eta_seconds"]) == (1.0, None)
    assert client.get("/v1/requests/r%201/progress").json() == ended


def test_an_eta_that_nobody_can_tell_is_null(client, house, waiting_call):
    house.scheduling.eta = None
    answer, [job_id] = waiting_call(TEXT, json=body({"request_id": "r"}))
    assert client.get("/v1/requests/r/progress").json()["eta_seconds"] is None
    house.finish(job_id)
    answer.result(600)


def test_progress_of_an_unknown_request_is_404(client):
    assert "'zzz'" in refusal(client.get("/v1/requests/zzz/progress"), 404)


@pytest.mark.parametrize("running", [False, True])
def test_an_abort_stops_the_work_and_the_call_says_so(client, house, waiting_call, running):
    answer, [job_id] = waiting_call(TEXT, json=body({"request_id": "abort me"}, n=2))
    token = house.start(job_id) if running else None
    url = "/v1/models/tiny/requests/abort%20me/abort"
    assert client.post(url, json={"block_duration": 30}).json() == {"msg": "DONE"}
    if running:
        assert house.store.get(job_id).cancel_requested
        house.store.cancelled(job_id, token, time.time())
    assert refusal(answer.result(600), 409) == "The request has been cancelled."
    assert nothing_is_left(house)
    assert client.post(url).json() == {"msg": "NO_OP"}


@pytest.mark.parametrize("uid", ["words", "nope"])
def test_an_abort_of_another_model_finds_nothing(client, house, waiting_call, uid):
    answer, [job_id] = waiting_call(TEXT, json=body({"request_id": "r"}))
    assert client.post(f"/v1/models/{uid}/requests/r/abort").json() == {"msg": "NOT_FOUND"}
    house.finish(job_id)
    assert answer.result(600).status_code == 200


def test_an_abort_of_an_unknown_request_finds_nothing(client):
    assert client.post("/v1/models/tiny/requests/nobody/abort").json() == {"msg": "NOT_FOUND"}


@pytest.mark.parametrize("sent", [{"block_duration": "soon"}, {"duration": 3}])
def test_a_bad_abort_is_refused_with_a_detail(client, sent):
    answer = client.post("/v1/models/tiny/requests/r/abort", json=sent)
    assert answer.status_code == 400
    assert answer.json()["detail"] == answer.json()["error"]["message"]


def test_a_request_id_that_runs_cannot_be_used_again(client, house, waiting_call):
    answer, [job_id] = waiting_call(TEXT, json=body({"request_id": "r"}))
    assert "runs already" in refusal(client.post(TEXT, json=body({"request_id": "r"})))
    house.finish(job_id)
    assert answer.result(600).status_code == 200
    again, [job_id] = waiting_call(TEXT, json=body({"request_id": "r"}))
    house.finish(job_id)
    assert again.result(600).status_code == 200


def test_a_refused_call_frees_its_request_id(client, house, waiting_call):
    refusal(client.post(TEXT, json=body({"request_id": "r", "num_frames": 6})))
    answer, [job_id] = waiting_call(TEXT, json=body({"request_id": "r"}))
    house.finish(job_id)
    assert answer.result(600).status_code == 200


def test_only_the_last_ended_calls_are_remembered():
    calls = Calls(clock=lambda: 1.0)
    for number in range(MAX_ENDED + 1):
        with calls.running(str(number), "m"):
            pass
    assert calls.find("0") is None
    assert calls.find("1").took_s == 0
    with calls.running("r", "m"), pytest.raises(InvalidRequest), calls.running("r", "m"):
        pass


def test_whether_a_key_is_needed_is_told_without_one(client, open_house):
    assert client.get("/v1/cluster/auth").json() == {"auth": False}
    _, keyed = open_house(api_key="secret")
    assert keyed.get("/v1/cluster/auth").json() == {"auth": True}
    for path in (TEXT, "/token"):
        assert "API key" in refusal(keyed.post(path, json=body()), 401)
    assert "API key" in keyed.get("/v1/models").json()["detail"]


def test_a_model_is_listed_and_described_in_both_dialects_words(client):
    tiny = client.get("/v1/models/tiny").json()
    assert client.get("/v1/models").json()["data"][0] == tiny
    assert (tiny["object"], tiny["model_type"]) == ("model", "video")
    assert (tiny["model_name"], tiny["model_engine"]) == ("tiny", "vitascope")
    assert tiny["model_ability"] == ["text2video", "image2video", "firstlastframe2video", "video2video"]
    unknown = client.get("/v1/models/nope")
    assert unknown.status_code == 404
    assert unknown.json()["detail"] == unknown.json()["error"]["message"]
