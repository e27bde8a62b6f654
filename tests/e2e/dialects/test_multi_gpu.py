"""The Multi-GPU FastAPI dialect as its users speak it: `requests`-style calls, and curl, on a real server."""

from __future__ import annotations

import base64
import io
import shutil
import time
from typing import Any

import pytest
import requests
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
    deadline = time.monotonic() + 600
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


def test_a_running_task_is_cancelled_and_stays_so(shared_server, submission, holds):
    holds.at(1)
    task = post(shared_server, "submit", submission).json()["requestId"]
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


def test_the_documented_python_runs_as_it_stands(examples, submission, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = examples("Multi-GPU FastAPI", "python")
    exec(example, {"picture": submission["image_url"].partition(",")[2]})
    assert read_provenance(tmp_path / "from-python.mp4").request.num_frames == 25


UNKNOWN = "0" * 32
REFUSED = [  # what it documents, and what its original takes and cannot do
    (422, {"prompt": "too short"}, "prompt"),
    (422, {"prompt": "p" * 501}, "prompt"),
    (422, {"image_url": None}, "image_url"),
    (422, {"negative_prompt": "n" * 501}, "negative_prompt"),
    (422, {"image_size": "1280x720"}, "image_size"),
    (422, {"image_size": "60*60"}, "multiples of 8"),
    (400, {"image_size": "1024*1024"}, "image_size"),
    (422, {"seed": -1}, "seed"),
    (422, {"seed": 2147483648}, "seed"),
    (422, {"num_frames": 23}, "num_frames"),
    (422, {"num_frames": 121}, "num_frames"),
    (400, {"num_frames": 30}, "use 29 or 33"),
    (422, {"guidance_scale": 0.5}, "guidance_scale"),
    (422, {"guidance_scale": 21}, "guidance_scale"),
    (422, {"infer_steps": 19}, "infer_steps"),
    (422, {"infer_steps": 101}, "infer_steps"),
    (422, {"sample_shift": 0}, "sample_shift"),
    (422, {"sample_shift": 11}, "sample_shift"),
    (422, {"sample_solver": "dpm++"}, "sample_solver"),
    (422, {"use_attentioncache": True, "attentioncache_interval": 0}, "attentioncache_interval"),
    (422, {"use_attentioncache": True, "start_step": 9, "end_step": 8}, "end_step"),
    (400, {"ulysses_size": 8}, "launched with 1"),
    (400, {"cfg_size": 2}, "launched with 1"),
    (400, {"t5_fsdp": True}, "launched with false"),
    (400, {"dit_fsdp": True}, "launched with false"),
    (400, {"vae_parallel": True}, "launched with false"),
    (400, {"model": "Wan2.1-I2V-14B-720P"}, "is not served here"),
    (400, {"image_url": "http://169.254.169.254/latest"}, "fetches no remote media"),
    (400, {"image_url": "file:///etc/passwd"}, "reads no local files"),
    (400, {"image_url": "/etc/passwd"}, "paths are not read"),
    (400, {"image_url": "data:image/png;base64,AAAA"}, "picture"),
    (422, {"sample_steps": 40}, "Unknown field 'sample_steps'"),
]


@pytest.mark.parametrize(("status", "fields", "said"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_done_is_refused_before_there_is_a_task(
    shared_server, submission, status, fields, said
):
    before = shared_server.client.get("/health").json()["total_tasks"]
    answer = requests.post(f"{shared_server.url}/video/submit", json={**submission, **fields}, timeout=600)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert said in answer.json()["detail"]
    assert shared_server.client.get("/health").json()["total_tasks"] == before


@pytest.mark.parametrize("route", ["status", "cancel"])
@pytest.mark.parametrize(
    ("body", "status"),
    [({"requestId": UNKNOWN}, 404), ({"requestId": "short"}, 422), ({}, 422), ({"id": UNKNOWN}, 422)],
)
def test_an_id_that_stands_for_no_task(shared_server, route, body, status):
    answer = post(shared_server, route, body)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])


def test_a_clip_that_is_not_there(shared_server):
    answer = requests.get(f"{shared_server.url}/videos/{UNKNOWN}.mp4", timeout=600)
    assert (answer.status_code, list(answer.json())) == (404, ["detail"])
