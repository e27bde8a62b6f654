"""vLLM-Omni's examples and its sync route, with curl, against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess

import httpx
import pytest

PROMPT = "a red circle moving right on a blue background"
QUICK = {"num_inference_steps": "2", "num_frames": "5", "seed": "1"}
MOST_STEPS = "200"

pytestmark = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("jq")), reason="vLLM-Omni's examples are for curl and jq"
)


def is_mp4(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


def jobs_of(server) -> list[str]:
    return [video["id"] for video in server.client.get("/v1/videos?limit=100").json()["data"]]


def test_the_documented_examples_run_as_they_stand(shared_server, examples, bash, tmp_path):
    before = jobs_of(shared_server)
    create, sync = examples("vLLM-Omni", "bash")
    assert bash(create).split() == ["true"]
    assert "x-inference-time-s: " in bash(sync).lower()
    for name in ("clip.mp4", "sync.mp4"):
        assert is_mp4((tmp_path / name).read_bytes())
    assert jobs_of(shared_server) == before


def test_sync_gives_the_very_clip_that_create_gives(shared_server):
    form = {name: (None, value) for name, value in {"prompt": PROMPT, **QUICK}.items()}
    answer = shared_server.client.post("/v1/videos/sync", files=form, timeout=240)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["x-model"] == shared_server.client.get("/v1/models").json()["data"][0]["id"]
    stages = json.loads(answer.headers["x-stage-durations"])
    assert float(answer.headers["x-inference-time-s"]) == pytest.approx(sum(stages.values()), abs=0.01)
    assert float(answer.headers["x-peak-memory-mb"]) > 0
    video_id = shared_server.client.post("/v1/videos", files=form).json()["id"]
    shared_server.wait_done(video_id)
    assert shared_server.content(video_id) == answer.content
    shared_server.client.delete(f"/v1/videos/{video_id}")


def test_a_client_that_hangs_up_frees_the_device(shared_server):
    before = set(jobs_of(shared_server))
    url = f"{shared_server.url}/v1/videos/sync"
    command = ["curl", "-s", url, "-F", f"prompt={PROMPT}", "-F", f"num_inference_steps={MOST_STEPS}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as curl:
        while not (new := set(jobs_of(shared_server)) - before):
            assert curl.poll() is None
        [job_id] = new
        with shared_server.client.stream("GET", f"/v1/videos/{job_id}/events", timeout=60) as events:
            for line in events.iter_lines():
                if '"stage":"denoise"' in line:
                    curl.kill()
                if line.startswith("event: "):
                    last = line
    assert last == "event: deleted"
    assert job_id not in jobs_of(shared_server)
    quick = shared_server.client.post("/v1/videos/sync", json={"prompt": PROMPT, **QUICK}, timeout=240)
    assert quick.status_code == 200
    assert float(quick.headers["x-inference-time-s"]) > 0


def test_a_refusal_is_in_the_envelope_and_nothing_waits(shared_server):
    before = jobs_of(shared_server)
    answer = httpx.post(f"{shared_server.url}/v1/videos/sync", data={"prompt": PROMPT, "num_frames": "6"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "num_frames")
    assert jobs_of(shared_server) == before


@pytest.mark.parametrize(("end", "said"), [("kill", "000"), ("terminate", "503")])
def test_nothing_is_left_of_what_was_waited_for_when_the_server_ended(live_server, end, said):
    url = f"{live_server.url}/v1/videos/sync"
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url, "-F", f"prompt={PROMPT}"]
    command += ["-F", f"num_inference_steps={MOST_STEPS}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        while not (ids := jobs_of(live_server)):
            assert curl.poll() is None
        live_server.wait_for(ids[0], lambda video: video["progress"] > 0)
        if end == "kill":
            live_server.kill()
        else:
            assert live_server.terminate() == 0
        assert curl.stdout.read() == said
    live_server.start()
    live_server.wait_ready()
    assert jobs_of(live_server) == []
    assert "Traceback" not in live_server.log.read_text()
