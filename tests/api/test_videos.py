from __future__ import annotations

import time

import pytest

from vitascope.api.openai import MAX_POLL_MS, MIN_POLL_MS
from vitascope.jobs.job import Failure, State

PROMPT = {"prompt": "a red circle"}


def create(client, count):
    return [client.post("/v1/videos", json=PROMPT).json()["id"] for _ in range(count)]


def assert_not_found(answer, video_id):
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": f"Video with id '{video_id}' not found.",
        "type": "invalid_request_error",
        "param": "video_id",
        "code": "video_not_found",
    }


def test_a_running_job_shows_its_progress(client, house, submitted):
    house.start(submitted, step=2)
    video = client.get(f"/v1/videos/{submitted}").json()
    assert (video["status"], video["progress"], video["queue_position"]) == ("in_progress", 50, None)


def test_progress_never_falls_when_a_worker_is_lost(client, house, submitted):
    token = house.start(submitted, step=3)
    house.store.requeue(submitted, token, time.time())
    video = client.get(f"/v1/videos/{submitted}").json()
    assert (video["status"], video["progress"]) == ("queued", 75)
    house.start(submitted, step=1)
    assert client.get(f"/v1/videos/{submitted}").json()["progress"] == 75


def test_a_completed_job_shows_what_it_took(client, house, submitted):
    house.finish(submitted)
    video = client.get(f"/v1/videos/{submitted}").json()
    assert (video["status"], video["progress"], video["error"]) == ("completed", 100, None)
    assert isinstance(video["completed_at"], int)
    assert video["inference_time_s"] == 1.75
    assert video["stage_durations"] == {"encode": 0.25, "denoise": 1.0, "decode": 0.5}
    assert video["peak_memory_mb"] == 2.0
    assert video["file_name"] == f"{submitted}.mp4"
    assert video["eta_s"] is None


def test_a_failed_job_is_a_200_with_its_error(client, house, submitted):
    house.store.fail(submitted, Failure(code="out_of_memory", message="Too large."), time.time())
    answer = client.get(f"/v1/videos/{submitted}")
    assert answer.status_code == 200
    video = answer.json()
    assert (video["status"], video["completed_at"]) == ("failed", None)
    assert video["error"] == {"code": "out_of_memory", "message": "Too large."}


def test_a_cancelled_job_reads_as_failed_so_that_poll_loops_end(client, house, submitted):
    answer = client.post(f"/v1/videos/{submitted}/cancel")
    assert answer.status_code == 200
    assert answer.json()["status"] == "failed"
    assert answer.json()["error"]["code"] == "cancelled"


def test_a_cancel_of_a_running_job_is_marked_and_the_scheduler_woken(client, house, submitted):
    token = house.start(submitted)
    woken = house.scheduling.wakes
    assert client.post(f"/v1/videos/{submitted}/cancel").json()["status"] == "in_progress"
    assert house.store.get(submitted).cancel_requested
    assert house.scheduling.wakes == woken + 1
    house.store.cancelled(submitted, token, time.time())
    assert client.get(f"/v1/videos/{submitted}").json()["error"]["code"] == "cancelled"


def test_a_cancel_of_a_finished_job_changes_nothing(client, house, submitted):
    house.finish(submitted)
    assert client.post(f"/v1/videos/{submitted}/cancel").json()["status"] == "completed"


@pytest.mark.parametrize(
    ("eta_s", "after_ms"), [(None, 1000), (0.0, MIN_POLL_MS), (40.0, 2000), (10_000.0, MAX_POLL_MS)]
)
def test_an_unfinished_job_says_in_whole_milliseconds_when_to_ask_again(
    client, house, submitted, eta_s, after_ms
):
    house.scheduling.eta = eta_s
    assert client.get(f"/v1/videos/{submitted}").headers["openai-poll-after-ms"] == str(after_ms)


def test_a_finished_job_says_nothing_of_asking_again(client, house, submitted):
    house.finish(submitted)
    assert "openai-poll-after-ms" not in client.get(f"/v1/videos/{submitted}").headers


@pytest.mark.parametrize(
    "video_id",
    [
        "video_" + "0" * 32,
        "nope",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "video_%0d%0ax-evil:%201",
        "'--",
        "x" * 3000,
    ],
)
@pytest.mark.parametrize(
    ("method", "tail"),
    [("GET", ""), ("DELETE", ""), ("GET", "/content"), ("POST", "/cancel"), ("GET", "/events")],
)
def test_an_unknown_or_hostile_id_is_a_plain_404(client, method, tail, video_id):
    answer = client.request(method, f"/v1/videos/{video_id}{tail}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "x-evil" not in answer.headers
    assert len(answer.content) < 500


def test_positions_count_the_jobs_in_front(client):
    ids = create(client, 3)
    assert [client.get(f"/v1/videos/{i}").json()["queue_position"] for i in ids] == [0, 1, 2]


# ---- list


def test_the_list_is_newest_first_with_its_ends_named(client):
    ids = create(client, 3)
    page = client.get("/v1/videos").json()
    assert [video["id"] for video in page["data"]] == ids[::-1]
    assert (page["object"], page["first_id"], page["last_id"]) == ("list", ids[2], ids[0])
    assert page["has_more"] is False


def test_an_empty_list_has_all_its_keys(client):
    assert client.get("/v1/videos").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_follow_each_other_without_gap_or_repetition(client, order):
    ids = create(client, 5)
    seen, after = [], None
    while True:
        query = {"limit": 2, "order": order} | ({"after": after} if after else {})
        page = client.get("/v1/videos", params=query).json()
        seen += [video["id"] for video in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == (ids if order == "asc" else ids[::-1])


def test_no_page_is_empty_while_more_follow(client, house):
    older, newer = create(client, 2)
    house.start(newer)
    client.delete(f"/v1/videos/{newer}")  # gone for readers, and in the store until its worker has stopped
    page = client.get("/v1/videos", params={"limit": 1}).json()
    assert (page["last_id"], page["has_more"]) == (older, False)


def test_twenty_are_listed_unless_told_otherwise(client):
    create(client, 21)
    page = client.get("/v1/videos").json()
    assert (len(page["data"]), page["has_more"]) == (20, True)


def test_no_database_is_asked_for_what_can_be_no_id(client, house, monkeypatch):
    def asked(*_, **__):
        raise AssertionError("some databases fail at a null character")

    monkeypatch.setattr(house.store, "get", asked)
    monkeypatch.setattr(house.store, "page", asked)
    assert client.get("/v1/videos/video%00").status_code == 404
    assert client.get("/v1/videos?after=%00").json()["data"] == []


def test_an_unknown_after_is_an_empty_page(client):
    create(client, 1)
    page = client.get("/v1/videos", params={"after": "video_gone"}).json()
    assert (page["data"], page["has_more"], page["last_id"]) == ([], False, None)


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1.5", "9" * 50, "٣"])
def test_a_bad_limit_is_refused(client, limit):
    answer = client.get("/v1/videos", params={"limit": limit})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limit")


def test_a_bad_order_is_refused(client):
    answer = client.get("/v1/videos", params={"order": "newest"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "order")


# ---- delete


def test_a_finished_job_is_deleted_with_its_file(client, house, submitted):
    house.finish(submitted)
    answer = client.delete(f"/v1/videos/{submitted}", headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert answer.json() == {"id": submitted, "object": "video.deleted", "deleted": True}
    assert not list(house.artifacts.keys())
    assert_not_found(client.get(f"/v1/videos/{submitted}"), submitted)
    assert_not_found(client.delete(f"/v1/videos/{submitted}"), submitted)


def test_a_waiting_job_is_deleted_at_once(client, house, submitted):
    assert client.delete(f"/v1/videos/{submitted}").json()["deleted"] is True
    assert not house.store.waiting()
    assert_not_found(client.get(f"/v1/videos/{submitted}"), submitted)


def test_a_running_job_is_gone_for_readers_at_once_and_its_worker_is_told(client, house, submitted):
    token = house.start(submitted)
    assert client.delete(f"/v1/videos/{submitted}").status_code == 200
    assert house.store.get(submitted).cancel_requested
    assert house.scheduling.wakes == 2
    for method, tail in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/content"),
        ("POST", "/cancel"),
        ("GET", "/events"),
    ]:
        assert client.request(method, f"/v1/videos/{submitted}{tail}").status_code == 404
    assert client.get("/v1/videos").json()["data"] == []
    assert house.store.cancelled(submitted, token, time.time()).state is State.DELETED


def test_an_expired_job_keeps_its_words_and_has_no_content(client, house, submitted):
    house.finish(submitted)
    house.store.expire(submitted)
    assert client.get(f"/v1/videos/{submitted}").json()["status"] == "completed"
    answer = client.get(f"/v1/videos/{submitted}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "video_expired")
