from __future__ import annotations

from dataclasses import replace

import pytest

ORIGINAL = {
    "prompt": "a red circle", "negative_prompt": "gray", "num_frames": 9, "seed": 7, "size": "32x32",
    "guidance_scale": 2, "num_inference_steps": 3, "fps": 12.5, "flow_shift": 2.0, "sample_solver": "unipc",
}  # fmt: skip


@pytest.fixture
def original(client, house, png):
    """The id of a finished video from a picture."""
    files = {name: (None, str(value)) for name, value in ORIGINAL.items()}
    answer = client.post("/v1/videos", files={**files, "input_reference": ("a.png", png(32, 32))})
    house.finish(answer.json()["id"])
    return answer.json()["id"]


def refusal(answer) -> tuple:
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["code"]


def test_a_remix_changes_the_prompt_and_nothing_else(client, house, original):
    answer = client.post(f"/v1/videos/{original}/remix", json={"prompt": "a circle"})
    video = answer.json()
    assert (answer.status_code, video["status"], video["prompt"]) == (200, "queued", "a circle")
    assert video["id"] != video["remixed_from_video_id"] == original
    before, after = house.store.get(original).request, house.store.get(video["id"]).request
    assert after == replace(before, prompt="a circle")
    assert after.first_frame is not None
    assert client.get(f"/v1/videos/{original}").json()["remixed_from_video_id"] is None
    assert house.scheduling.wakes > 0


@pytest.mark.parametrize("content", [{"files": {"prompt": (None, "b")}}, {"data": {"prompt": "b"}}])
def test_a_remix_takes_forms_too(client, original, content):
    assert client.post(f"/v1/videos/{original}/remix", **content).json()["prompt"] == "b"


def test_a_remix_of_a_remix_names_the_remix(client, house, original):
    first = client.post(f"/v1/videos/{original}/remix", json={"prompt": "b"}).json()["id"]
    house.finish(first)
    second = client.post(f"/v1/videos/{first}/remix", json={"prompt": "c"}).json()
    assert second["remixed_from_video_id"] == first


def test_a_remix_outlives_its_original(client, original):
    remix = client.post(f"/v1/videos/{original}/remix", json={"prompt": "b"}).json()
    client.delete(f"/v1/videos/{original}")
    assert client.get(f"/v1/videos/{remix['id']}").json()["remixed_from_video_id"] == original


def test_a_remix_warns_of_words_that_the_model_does_not_know(client, original):
    video = client.post(f"/v1/videos/{original}/remix", json={"prompt": "a zebra"}).json()
    assert "'zebra'" in video["warnings"][0]


def test_an_unknown_original_is_404(client):
    answer = client.post("/v1/videos/video_x/remix", json={"prompt": "b"})
    assert refusal(answer) == (404, "video_id", "video_not_found")


def test_an_original_that_is_not_done_failed_or_expired_is_404(client, house, submitted, original):
    url = f"/v1/videos/{submitted}/remix"
    assert refusal(client.post(url, json={"prompt": "b"})) == (404, "video_id", "not_ready")
    client.post(f"/v1/videos/{submitted}/cancel")
    assert refusal(client.post(url, json={"prompt": "b"})) == (404, "video_id", "not_ready")
    house.store.expire(original)
    answer = client.post(f"/v1/videos/{original}/remix", json={"prompt": "b"})
    assert refusal(answer) == (404, "video_id", "video_expired")


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "prompt", "invalid_value"),
        ({"prompt": "  "}, "prompt", "invalid_value"),
        ({"prompt": 7}, "prompt", "invalid_type"),
        ({"prompt": "b", "seed": 1}, "seed", "unknown_parameter"),
    ],
)
def test_a_remix_takes_a_prompt_and_nothing_else(client, house, original, body, param, code):
    assert refusal(client.post(f"/v1/videos/{original}/remix", json=body)) == (400, param, code)
    assert not house.store.waiting()


def test_a_file_is_no_prompt(client, original):
    answer = client.post(f"/v1/videos/{original}/remix", files={"prompt": ("a.txt", b"b")})
    assert refusal(answer) == (400, "prompt", "invalid_type")


def test_an_original_of_a_model_that_is_not_served_any_more_is_refused(client, house, original):
    house.scheduling.served = house.scheduling.served[1:]
    answer = client.post(f"/v1/videos/{original}/remix", json={"prompt": "b"})
    assert refusal(answer) == (400, "model", "model_not_found")


def test_a_remix_that_is_sent_twice_makes_one_video(client, house, original):
    key, url = {"Idempotency-Key": "k"}, f"/v1/videos/{original}/remix"
    ids = {client.post(url, json={"prompt": "b"}, headers=key).json()["id"] for _ in range(2)}
    assert len(ids) == len(house.store.waiting()) == 1
    answer = client.post("/v1/videos", json={"prompt": "b"}, headers=key)
    assert refusal(answer) == (400, "Idempotency-Key", "idempotency_key_reused")


def test_a_remix_finds_a_full_queue_full(open_house):
    house, client = open_house(max_queue=1)
    made = client.post("/v1/videos", json={"prompt": "a"}).json()["id"]
    house.finish(made)
    assert client.post(f"/v1/videos/{made}/remix", json={"prompt": "b"}).status_code == 200
    assert client.post(f"/v1/videos/{made}/remix", json={"prompt": "b"}).status_code == 429
