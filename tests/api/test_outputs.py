"""Several outputs of one job over HTTP: asked for, told of, downloaded, gone."""

from __future__ import annotations

import pytest

PROMPT = {"prompt": "a red circle", "seed": 5}


def create(client, **fields) -> dict:
    answer = client.post("/v1/videos", json={**PROMPT, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def three(client) -> str:
    """The id of a waiting job of three outputs."""
    return create(client, n=3)["id"]


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 3}, {"n": "3"}, {"num_outputs_per_prompt": 3}, {"n": 3, "num_outputs_per_prompt": "3"},
        {"n": 3, "seed": [5, 6, 7]}, {"extra_body": {"n": 3}},
    ],
)  # fmt: skip
def test_the_number_of_clips_is_understood_in_every_spelling(client, house, fields):
    video = create(client, **fields)
    assert (video["num_outputs"], video["seed"], video["seeds"]) == (3, 5, [5, 6, 7])
    assert house.store.get(video["id"]).request.num_outputs == 3


@pytest.mark.parametrize("kind", ["files", "data"])
def test_forms_have_it_as_text(client, kind):
    form = {"prompt": "a red circle", "seed": "5", "n": "2"}
    sent = {name: (None, value) for name, value in form.items()} if kind == "files" else form
    assert client.post("/v1/videos", **{kind: sent}).json()["seeds"] == [5, 6]


def test_a_refusal_says_how_many_there_may_be(client):
    refusal = client.post("/v1/videos", json={**PROMPT, "n": 11}).json()["error"]
    assert (refusal["message"], refusal["param"]) == ("n is 11; it must be from 1 to 10.", "n")


def test_each_output_is_downloaded_by_its_index(client, house, three, clip):
    house.finish(three)
    url = f"/v1/videos/{three}/content"
    assert client.get(url).content == client.get(f"{url}?index=0").content == clip
    for output in (1, 2):
        answer = client.get(f"{url}?index={output}")
        assert answer.content == clip + b"%d" % output
        assert answer.headers["content-disposition"] == f'attachment; filename="{three}-{output}.mp4"'
        assert client.get(f"{url}?variant={output}").content == answer.content  # as SGLang's clients ask
    assert client.get(f"{url}?variant=thumbnail&index=1").content == b"RIFF1"


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("index=3", 404, "There is no output 3; this video has 3, counted from 0."),
        ("variant=3", 404, "There is no output 3"),
        ("variant=thumbnail&index=9999", 404, "There is no output 9999"),
        ("index=-1", 400, "Invalid 'index': '-1'"),
        ("index=one", 400, "Invalid 'index': 'one'"),
        ("variant=1&index=2", 400, "Invalid value: '1'"),
        ("variant=99999", 400, "Invalid value: '99999'"),
    ],
)
def test_an_output_that_is_not_there_is_refused(client, house, three, query, status, said):
    house.finish(three)
    answer = client.get(f"/v1/videos/{three}/content?{query}")
    assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith(said)


def test_no_output_is_served_before_all_are_made(client, house, three):
    house.start(three)
    house.store_output(three)
    answer = client.get(f"/v1/videos/{three}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_ready")


@pytest.mark.parametrize("running", [True, False])
def test_a_delete_takes_every_output_with_it(client, house, three, running):
    token = house.start(three)
    house.store_output(three)
    if not running:
        house.finish_running(three)
    assert client.delete(f"/v1/videos/{three}").status_code == 200
    if running:
        house.store.cancelled(three, token, 1.0)
    assert list(house.artifacts.keys()) == []


def test_a_cancel_of_a_job_that_waits_again_takes_the_outputs_it_had_made(client, house, three):
    token = house.start(three)
    house.store_output(three)
    house.store.checkpoint(three, token, house.artifacts.put(b"state", "safetensors"), 5)
    house.store.requeue(three, token, 1.0)  # its worker was lost
    assert client.post(f"/v1/videos/{three}/cancel").json()["error"]["code"] == "cancelled"
    assert list(house.artifacts.keys()) == []


def test_a_cancel_of_a_finished_job_leaves_its_outputs(client, house, three, clip):
    house.finish(three)
    assert client.post(f"/v1/videos/{three}/cancel").json()["status"] == "completed"
    assert client.get(f"/v1/videos/{three}/content").content == clip


def test_a_remix_makes_as_many(client, house, three):
    house.finish(three)
    remix = client.post(f"/v1/videos/{three}/remix", json={"prompt": "a red circle"}).json()
    assert remix["seeds"] == [5, 6, 7]


def test_a_clip_that_is_waited_for_is_one(client, house):
    answer = client.post("/v1/videos/sync", json={**PROMPT, "n": 2})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")
    assert "POST /v1/videos" in answer.json()["error"]["message"]
    assert not house.store.waiting()
