"""vLLM-Omni's examples and its sync route, with curl, against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

PROMPT = "a red circle moving right on a blue background"
QUICK = {"num_inference_steps": "2", "num_frames": "5", "seed": "1"}
MANY_STEPS = "50"

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
    answer = shared_server.client.post("/v1/videos/sync", files=form)
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


def test_words_beyond_what_the_model_reads_are_warned_of(shared_server):
    words = " ".join([PROMPT] * 7)  # nine each; the model reads 64 tokens, 11 of them its own
    warning = "The prompt has 63 tokens; the model reads the first 53, and the rest has no effect."
    answer = shared_server.client.post("/v1/videos/sync", json={"prompt": words, **QUICK})
    assert json.loads(answer.headers["x-warnings"]) == [warning]
    video_id = shared_server.client.post("/v1/videos", json={"prompt": words, **QUICK}).json()["id"]
    assert shared_server.wait_done(video_id)["warnings"] == [warning]
    shared_server.client.delete(f"/v1/videos/{video_id}")


def test_a_client_that_hangs_up_frees_the_device(shared_server, holds):
    before = set(jobs_of(shared_server))
    holds.at(3)
    url = f"{shared_server.url}/v1/videos/sync"
    command = ["curl", "-s", url, "-F", f"prompt={PROMPT}", "-F", f"num_inference_steps={MANY_STEPS}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as curl:
        while not (new := set(jobs_of(shared_server)) - before):
            assert curl.poll() is None
        [job_id] = new
        with shared_server.client.stream("GET", f"/v1/videos/{job_id}/events") as events:
            for line in events.iter_lines():
                if '"stage":"denoise"' in line:
                    curl.kill()
                if line.startswith("event: "):
                    last = line
    assert last == "event: deleted"
    assert job_id not in jobs_of(shared_server)
    quick = shared_server.client.post("/v1/videos/sync", json={"prompt": PROMPT, **QUICK})
    assert quick.status_code == 200
    assert float(quick.headers["x-inference-time-s"]) > 0


def test_a_refusal_is_in_the_envelope_and_nothing_waits(shared_server):
    before = jobs_of(shared_server)
    answer = shared_server.client.post("/v1/videos/sync", data={"prompt": PROMPT, "num_frames": "6"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "num_frames")
    assert jobs_of(shared_server) == before


def curl(*arguments) -> tuple[int, dict]:
    """Return curl's status and JSON."""
    command = ["curl", "-s", "-w", "\\n%{http_code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


# Its own table of errors: what it answers with 422, or takes and drops, is a 400 with the field's name.
REFUSED = [
    ("prompt=", "prompt", "prompt"),
    ("size=640x", "size", "WIDTHxHEIGHT"),
    ("size=0x64", "size", "WIDTHxHEIGHT"),
    ("width=9223372036854775807", "width", "at most"),
    ("width=9223372036854775808", "width", "64 bits"),
    ("height=33", "height", "multiple of 16"),
    ("seconds=0", "seconds", "seconds"),
    ("seconds=four", "seconds", "not a number"),
    ("fps=inf", "fps", "not a number"),
    ("fps=nan", "fps", "not a number"),
    ("fps=0", "fps", "fps"),
    ("num_frames=0", "num_frames", "num_frames"),
    ("num_inference_steps=0", "num_inference_steps", "from 1"),
    ("num_inference_steps=500", "num_inference_steps", "from 1 to"),
    ("guidance_scale=-1", "guidance_scale", "guidance_scale"),
    ("guidance_scale=99", "guidance_scale", "guidance_scale"),
    ("guidance_scale_2=3", "guidance_scale_2", "guidance_scale_2"),
    ("true_cfg_scale=4", "true_cfg_scale", "true_cfg_scale"),
    ("flow_shift=0", "flow_shift", "flow_shift"),
    ("seed=1.5", "seed", "not an integer"),
    ("seed=9223372036854775808", "seed", "64 bits"),
    ("num_outputs_per_prompt=11", "num_outputs_per_prompt", "from 1 to 10"),
    ("model=Wan2.1", "model", "is not served here"),
    ("lora=ink", "lora", "not valid JSON"),
    ('lora={"scale": 1}', "lora", "lora needs one name"),
    ('lora={"name": "a", "path": "/models/a"}', "lora", "is a path on the server"),
    ("extra_params=[1]", "extra_params", "JSON object"),
    ("extra_params={", "extra_params", "not valid JSON"),
    ('extra_params={"control_path": "/etc/passwd"}', "control_path", "clients choose none"),
    ("frame_interpolation_model_path=/models/rife", "frame_interpolation_model_path", "clients choose none"),
    ("enable_frame_interpolation=true", "enable_frame_interpolation", "not offered"),
    ("generate_sound=true", "generate_sound", "makes no sound"),
    ("sound_duration=3", "sound_duration", "as long as the clip"),
    ("start_time_seconds=1", "start_time_seconds", "sound"),
    ("aspect_ratio=16:9", "aspect_ratio", "size in pixels"),
    ("short_edge=480", "short_edge", "size in pixels"),
    ('image_reference={"file_id": "file-1"}', "image_reference", "file_id is not supported"),
    ('image_reference={"image_url": "data:,", "x": 1}', "image_reference", "image_reference[x]"),
    ('image_reference={"image_url": "http://10.0.0.1/a.png"}', "image_reference", "fetches no remote media"),
    ('audio_reference={"audio_url": "data:,"}', "audio_reference", "takes no sound"),
    ("control_type=canny", "control_type", "no control video"),
    ("timeline_guides=[]", "timeline_guides", "a first and a last frame only"),
    ("colour=red", "colour", "Unknown parameter"),
]


@pytest.mark.parametrize("route", ["", "/sync"])
@pytest.mark.parametrize(("field", "param", "said"), REFUSED, ids=lambda value: str(value)[:40])
def test_its_table_of_errors_is_told_before_there_is_a_job(shared_server, route, field, param, said):
    form = [] if field.startswith("prompt=") else ["--form-string", f"prompt={PROMPT}"]
    url, before = f"{shared_server.url}/v1/videos{route}", jobs_of(shared_server)
    status, answer = curl(url, *form, "--form-string", field)
    assert (status, answer["error"]["param"]) == (400, param)
    assert said in answer["error"]["message"]
    assert jobs_of(shared_server) == before


@pytest.mark.parametrize(
    "name", ["control_reference", "source_audio", "video_noise_mask", "audio_noise_mask", "guide_files"]
)
def test_an_upload_that_the_model_has_no_use_for_is_refused(shared_server, tmp_path, name):
    (tmp_path / "upload").write_bytes(b"anything")
    upload = f"{name}=@{tmp_path}/upload"
    status, answer = curl(f"{shared_server.url}/v1/videos", "-F", f"prompt={PROMPT}", "-F", upload)
    assert (status, answer["error"]["param"]) == (400, name)
    assert "cannot honour" in answer["error"]["message"]


def test_an_upload_that_is_no_picture_is_refused_as_such(shared_server, tmp_path):
    (tmp_path / "first.png").write_bytes(b"no picture")
    upload = f"input_reference=@{tmp_path}/first.png"
    status, answer = curl(f"{shared_server.url}/v1/videos/sync", "-F", f"prompt={PROMPT}", "-F", upload)
    assert (status, answer["error"]["code"]) == (400, "invalid_media")


def test_what_an_unfinished_failed_or_unknown_job_answers(shared_server, holds):
    url = f"{shared_server.url}/v1/videos"
    holds.at(1)
    _, job = curl(url, "-F", f"prompt={PROMPT}", "-F", f"num_inference_steps={MANY_STEPS}")
    status, answer = curl(f"{url}/{job['id']}/content")
    assert (status, answer["error"]["code"]) == (404, "not_ready")
    curl("-X", "POST", f"{url}/{job['id']}/cancel")
    shared_server.wait_for(job["id"], lambda video: video["status"] == "failed")
    assert curl(f"{url}/{job['id']}")[0] == 200  # and not the code of its error
    assert curl(f"{url}/{job['id']}/content")[0] == 404
    assert curl("-X", "DELETE", f"{url}/{job['id']}") == (
        200, {"id": job["id"], "object": "video.deleted", "deleted": True}
    )  # fmt: skip
    for method, tail in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        status, answer = curl("-X", method, f"{url}/{job['id']}{tail}")
        assert (status, answer["error"]["code"]) == (404, "video_not_found")
    for query in ("limit=0", "limit=101", "order=x"):
        assert curl(f"{url}?{query}")[0] == 400
