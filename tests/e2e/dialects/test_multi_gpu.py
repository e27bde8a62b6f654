"""The Multi-GPU FastAPI dialect as its users speak it: `requests`-style calls, and curl, on a real server."""

from __future__ import annotations

import base64
import io
import shutil
import time
from typing import Any

import pytest
from PIL import Image

from vitascope.media.provenance import read_provenance
from vitascope.request import AttentionCache

PROMPT = "a red circle moving right on a blue background"
ENDED = {"Succeed", "Failed", "Cancelled"}


@pytest.fixture(scope="module")
def submission() -> dict[str, Any]:
    """What the dialect's documentation submits, with a picture that needs no network."""
    buffer = io.BytesIO()
    Image.new("RGB", (100, 80), (30, 60, 200)).save(buffer, "PNG")
    return {
        "prompt": PROMPT,
        "image_url": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "image_size": "64*64",
        "num_frames": 25,
        "infer_steps": 20,
        "guidance_scale": 3.0,
        "seed": 42,
    }


def post(server: Any, route: str, body: dict[str, Any]) -> Any:
    return server.client.post(f"/video/{route}", json=body)


def wait_for(server: Any, task: str, statuses: set[str]) -> dict[str, Any]:
    """Poll as the dialect's client does."""
    seen = -1.0
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        told = post(server, "status", {"requestId": task}).json()
        assert seen <= told["progress"] <= 1
        seen = told["progress"]
        if told["status"] in statuses:
            return dict(told)
        assert told["status"] in {"InQueue", "InProgress"}
        time.sleep(0.02)
    raise AssertionError(f"{task} is not {statuses}")


@pytest.fixture(scope="module")
def plain(shared_server, submission) -> dict[str, Any]:
    """A finished task without a cache: its status."""
    task = post(shared_server, "submit", submission).json()["requestId"]
    return wait_for(shared_server, task, ENDED)


def test_a_picture_becomes_a_clip_at_a_url_that_works(shared_server, plain, tmp_path):
    assert (plain["status"], plain["progress"], plain["reason"]) == ("Succeed", 1.0, None)
    results = plain["results"]
    assert results["video_url"].startswith(shared_server.url)
    clip = shared_server.client.get(results["video_url"]).content
    assert len(clip) == results["file_size"]
    assert clip[4:8] == b"ftyp"
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    request = read_provenance(path).request
    assert (request.num_frames, request.num_inference_steps, request.seed) == (25, 20, 42)
    assert request.first_frame is not None
    assert request.attention_cache is None


def test_the_cache_fields_act(shared_server, submission, plain, tmp_path):
    cache = {"use_attentioncache": True, "start_step": 4, "attentioncache_interval": 4, "end_step": 17}
    task = post(shared_server, "submit", {**submission, **cache}).json()["requestId"]
    told = wait_for(shared_server, task, ENDED)
    assert told["status"] == "Succeed"
    clip = shared_server.client.get(told["results"]["video_url"]).content
    (tmp_path / "clip.mp4").write_bytes(clip)
    (tmp_path / "plain.mp4").write_bytes(shared_server.client.get(plain["results"]["video_url"]).content)
    ours, exact = (read_provenance(tmp_path / name) for name in ("clip.mp4", "plain.mp4"))
    assert ours.request.attention_cache == AttentionCache(start_step=4, interval=4, end_step=17)
    assert ours.frames_sha256 != exact.frames_sha256


def test_a_running_task_is_cancelled_and_stays_so(shared_server, submission):
    task = post(shared_server, "submit", {**submission, "infer_steps": 100}).json()["requestId"]
    wait_for(shared_server, task, {"InProgress"})
    assert post(shared_server, "cancel", {"requestId": task}).json() == {"status": "Cancelled"}
    assert wait_for(shared_server, task, ENDED)["status"] == "Cancelled"
    assert post(shared_server, "cancel", {"requestId": task}).json() == {"status": "Already finished"}
    assert shared_server.client.get(f"/videos/{task}.mp4").status_code == 404


def test_the_bundled_models_own_rules_are_told(shared_server, submission):
    answer = post(shared_server, "submit", {**submission, "image_size": "1280*720"})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("image_size: ")
    answer = post(shared_server, "submit", {**submission, "num_frames": 81})
    assert answer.status_code == 400
    assert "use " in answer.json()["detail"]


def test_health_has_what_the_dialects_monitors_read(shared_server):
    told = shared_server.client.get("/health").json()
    assert told["status"] == "healthy"
    assert told["resources"]["available_slots"] <= told["resources"]["max_concurrent"]


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_the_documented_example_runs_as_it_stands(examples, bash, draw, tmp_path):
    (tmp_path / "first.png").write_bytes(draw(100, 80))
    (example,) = examples("Multi-GPU FastAPI", "bash")
    bash(example)
    request = read_provenance(tmp_path / "task.mp4").request
    assert request.attention_cache == AttentionCache(start_step=4, interval=4, end_step=17)
