from __future__ import annotations

import pytest

PROMPT = {"prompt": "a red circle", "num_frames": 9}
KEY = {"Idempotency-Key": "3f0c7a52-2d7d-4a52-8a3a-1c9d"}


def create(client, headers=KEY, **content):
    return client.post("/v1/videos", headers=headers, **(content or {"json": PROMPT}))


def test_a_create_that_is_sent_twice_makes_one_video(client, house):
    first, second = create(client), create(client)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["id"] == second.json()["id"]
    assert len(house.store.waiting()) == 1


def test_a_repeated_upload_is_the_same_request_and_another_picture_is_not(client, house, png):
    form = {"prompt": (None, "a red circle"), "input_reference": ("a.png", png())}
    first = create(client, files=form)
    assert create(client, files={**form, "input_reference": ("b", png())}).json()["id"] == first.json()["id"]
    other = create(client, files={**form, "input_reference": ("a.png", png(colour=(0, 0, 9)))})
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert len(house.store.waiting()) == 1


def test_the_same_key_with_another_body_is_refused(client, house):
    create(client)
    answer = create(client, json={**PROMPT, "seed": 1})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "idempotency_key_reused")
    assert error["param"] == "Idempotency-Key"
    assert len(house.store.waiting()) == 1


def test_without_a_key_or_with_another_each_create_makes_a_video(client, house):
    ids = {create(client, headers).json()["id"] for headers in (KEY, {}, {}, {"Idempotency-Key": "other"})}
    assert len(ids) == len(house.store.waiting()) == 4


def test_a_repetition_is_answered_although_the_queue_is_full(open_house):
    _, client = open_house(max_queue=1)
    first = create(client)
    assert create(client, {}).status_code == 429
    assert create(client).json()["id"] == first.json()["id"]


def test_a_refused_create_leaves_its_key_free(client):
    assert create(client, json={**PROMPT, "num_frames": 10}).status_code == 400
    assert create(client).status_code == 200


def test_a_deleted_video_is_made_anew(client):
    first = create(client).json()["id"]
    client.delete(f"/v1/videos/{first}")
    assert create(client).json()["id"] != first


@pytest.mark.parametrize("key", ["", "two words", "k" * 256, "k\u00e9y"])
def test_what_is_no_key_is_refused(client, house, key):
    answer = create(client, {"Idempotency-Key": key.encode()})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")
    assert not house.store.waiting()
