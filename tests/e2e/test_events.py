"""Following, cancelling and deleting jobs that really run."""

from __future__ import annotations

import base64
import json

import pytest

LONG = {"num_inference_steps": 200, "n": 10}  # minutes, if nobody stops it


def follow(server, video_id, *, preview=False):
    """Yield the events of a job as (name, data)."""
    query = {"preview": "true"} if preview else {}
    with server.client.stream("GET", f"/v1/videos/{video_id}/events", params=query) as answer:
        assert answer.status_code == 200
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def test_a_job_is_followed_step_by_step_to_its_end(shared_server, holds):
    held = [2, 5, 8]
    holds.at(held[0])
    video_id = shared_server.submit(num_inference_steps=10)
    events, waits = [], iter(held[1:])
    for name, data in follow(shared_server, video_id):
        events.append((name, data))
        if name == "status" and data["step"] == holds.step:  # whoever looks there is told
            following = next(waits, None)
            holds.release() if following is None else holds.at(following)
    assert events[-1][0] == "done"
    assert events[-1][1]["status"] == "completed"
    told = [data for name, data in events if name == "status"]
    steps = [data["step"] for data in told if data["stage"] == "denoise"]
    assert steps == sorted(steps)
    assert {*held} <= {*steps}
    progress = [data["progress"] for data in told]
    assert progress == sorted(progress)
    shared_server.client.delete(f"/v1/videos/{video_id}")


def test_a_preview_is_a_picture_of_the_clip_on_its_way(shared_server, holds):
    holds.at(1)
    video_id = shared_server.submit(**LONG)
    following = follow(shared_server, video_id, preview=True)
    next(following)  # it is watched by now
    holds.release()
    image = next(data["image"] for name, data in following if name == "preview")
    assert base64.b64decode(image.removeprefix("data:image/webp;base64,"))[8:12] == b"WEBP"
    shared_server.client.delete(f"/v1/videos/{video_id}")


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_a_job_that_is_stopped_frees_the_device_for_the_next(shared_server, holds, how):
    holds.at(2)
    stopped = shared_server.submit(**LONG)
    following = follow(shared_server, stopped)
    for name, data in following:
        if name == "status" and data["step"] == 2:
            break
    if how == "delete":
        shared_server.client.delete(f"/v1/videos/{stopped}")
        assert shared_server.client.get(f"/v1/videos/{stopped}").status_code == 404
        ends = {"deleted"}
    else:
        shared_server.client.post(f"/v1/videos/{stopped}/cancel")
        ends = {"done"}
    assert {name for name, _ in following if name != "status"} == ends
    if how == "cancel":
        video = shared_server.video(stopped)
        assert video["error"]["code"] == "cancelled"
        assert video["progress"] < 90
    shared_server.wait_done(shared_server.submit(num_inference_steps=1))


def test_a_clip_is_downloaded_in_ranges(shared_server):
    video_id = shared_server.submit(num_inference_steps=1)
    shared_server.wait_done(video_id)
    whole = shared_server.content(video_id)
    url = f"/v1/videos/{video_id}/content"
    half = len(whole) // 2
    parts = [
        shared_server.client.get(url, headers={"range": f"bytes={span}"})
        for span in (f"0-{half - 1}", f"{half}-")
    ]
    assert [part.status_code for part in parts] == [206, 206]
    assert parts[0].content + parts[1].content == whole
    shared_server.client.delete(f"/v1/videos/{video_id}")
