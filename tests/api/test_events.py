from __future__ import annotations

import asyncio
import base64
import json
import time

import pytest

from vitascope.api import events


def parse(text):
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


async def follow(house, job_id, act, *, previews=False):
    """Read a job's events; after each one `act` makes the next thing happen."""
    seen = []
    async for chunk in events.stream(house.services, job_id, previews=previews):
        seen += parse(chunk.decode())
        act(seen)
    return seen


def test_a_job_is_followed_from_the_queue_to_its_end(house, submitted):
    def act(seen):
        name, data = seen[-1]
        if name == "status" and data["status"] == "queued":
            house.start(submitted, step=2)
        elif name == "status":
            house.finish_running(submitted)

    seen = asyncio.run(asyncio.wait_for(follow(house, submitted, act), 600))
    assert [(name, data["status"]) for name, data in seen] == [
        ("status", "queued"),
        ("status", "in_progress"),
        ("done", "completed"),
    ]
    assert seen[0][1]["queue_position"] == 0
    assert {key: seen[1][1][key] for key in ("stage", "step", "num_steps", "progress", "eta_s")} == {
        "stage": "denoise",
        "step": 2,
        "num_steps": 4,
        "progress": 50,
        "eta_s": 4.0,
    }
    assert seen[2][1]["id"] == submitted


def test_a_finished_job_is_told_at_once(client, house, submitted):
    house.finish(submitted)
    answer = client.get(f"/v1/videos/{submitted}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [name for name, _ in parse(answer.text)] == ["done"]


def test_a_browser_that_calls_again_after_the_end_is_told_to_stop(client, house, submitted):
    def again(last_id):
        return client.get(f"/v1/videos/{submitted}/events", headers={"last-event-id": last_id})

    house.finish(submitted)
    [last_id] = [line[4:] for line in again("").text.splitlines() if line.startswith("id: ")]
    assert again(last_id).status_code == 204  # on which an EventSource gives up
    assert [name for name, _ in parse(again("7").text)] == ["done"]
    client.delete(f"/v1/videos/{submitted}")
    assert again(last_id).status_code == 404


def test_no_proxy_holds_events_back(client, house, submitted):
    house.finish(submitted)
    headers = client.get(f"/v1/videos/{submitted}/events").headers
    assert (headers["x-accel-buffering"], headers["cache-control"]) == ("no", "no-store")


def test_previews_come_only_to_those_who_ask(house, submitted):
    house.start(submitted)

    def act(seen):
        if seen[-1][0] == "status":
            house.preview(submitted, b"picture")
        elif seen[-1][0] == "preview":
            house.finish_running(submitted)

    seen = asyncio.run(asyncio.wait_for(follow(house, submitted, act, previews=True), 600))
    assert [name for name, _ in seen] == ["status", "preview", "done"]
    image = "data:image/webp;base64," + base64.b64encode(b"picture").decode()
    assert seen[1][1] == {"step": 2, "image": image}
    assert not house.scheduling.listeners


def test_nobody_listens_for_previews_unasked(house, submitted):
    house.start(submitted)

    def act(seen):
        if seen[-1][0] == "status":
            assert not house.scheduling.listeners
            house.finish_running(submitted)

    asyncio.run(asyncio.wait_for(follow(house, submitted, act), 600))


def test_a_slow_reader_gets_the_newest_preview_alone(house, submitted):
    house.start(submitted)

    def act(seen):
        if seen[-1][0] == "status":
            house.preview(submitted, b"old")
            house.preview(submitted, b"new")
        elif seen[-1][0] == "preview":
            house.finish_running(submitted)

    seen = asyncio.run(asyncio.wait_for(follow(house, submitted, act, previews=True), 600))
    images = [base64.b64decode(data["image"].split(",")[1]) for name, data in seen if name == "preview"]
    assert images == [b"new"]


def test_a_deleted_job_ends_its_stream(house, submitted):
    def act(seen):
        if seen[-1][0] == "status":
            house.store.delete(submitted, time.time())

    seen = asyncio.run(asyncio.wait_for(follow(house, submitted, act), 600))
    assert seen[-1] == ("deleted", {"id": submitted})


def test_a_server_that_stops_ends_the_stream_of_a_job_that_is_not_done(house, submitted):
    def act(seen):
        assert seen[-1][0] == "status"
        house.services.stopping.set()
        house.services.changes.notify(submitted)

    try:
        seen = asyncio.run(asyncio.wait_for(follow(house, submitted, act), 600))
    finally:
        house.services.stopping.clear()
    assert [name for name, _ in seen] == ["status"]


def test_a_quiet_stream_is_kept_alive(house, submitted, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)

    async def second_chunk():
        chunks = events.stream(house.services, submitted, previews=False)
        await anext(chunks)
        beat = await anext(chunks)
        await chunks.aclose()
        return beat

    assert asyncio.run(asyncio.wait_for(second_chunk(), 600)).startswith(b":")


def test_a_reader_who_leaves_stops_the_previews(house, submitted):
    house.start(submitted)

    async def leave():
        chunks = events.stream(house.services, submitted, previews=True)
        await anext(chunks)
        assert house.scheduling.listeners
        await chunks.aclose()

    asyncio.run(asyncio.wait_for(leave(), 600))
    assert not house.scheduling.listeners


@pytest.mark.parametrize("preview", ["yes", "1", ""])
def test_preview_is_true_or_false(client, submitted, preview):
    answer = client.get(f"/v1/videos/{submitted}/events", params={"preview": preview})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "preview")
