"""Nothing is lost and nothing lies, whoever is killed: real processes, the bundled model."""

from __future__ import annotations

import base64
from io import BytesIO

import psutil
import pytest
from PIL import Image

STEPS = 60  # long enough to be caught in the middle


@pytest.fixture(scope="module")
def server(server_on, tmp_path_factory):
    """A server that these tests kill; each leaves one that is running."""
    with server_on(tmp_path_factory.mktemp("durability") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(server):
    """The clip of seed 1 as an undisturbed run makes it."""
    video_id = server.submit(num_inference_steps=STEPS)
    server.wait_done(video_id)
    return server.content(video_id)


def midway(video) -> bool:
    return video["status"] == "in_progress" and video["progress"] >= 20


def test_progress_is_true_and_the_clip_is_there_when_it_says_so(server):
    video_id = server.submit(num_inference_steps=20)
    seen = []

    def done(video):
        seen.append((video["status"], video["progress"]))
        return video["status"] == "completed"

    video = server.wait_for(video_id, done)
    percents = [percent for _, percent in seen]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len({percent for status, percent in seen if status == "in_progress"}) >= 3
    assert {percent % 5 for percent in percents} <= {0, 99 % 5}  # whole steps of twenty
    assert set(video["stage_durations"]) == {"encode", "denoise", "decode", "finish"}
    assert server.content(video_id)[4:8] == b"ftyp"


def test_a_job_survives_its_worker_and_makes_the_same_bytes(server, undisturbed):
    video_id = server.submit(num_inference_steps=STEPS)
    before = server.wait_for(video_id, midway)
    server.kill_worker()
    resumed = server.wait_for(
        video_id, lambda v: v["status"] == "queued" or v["progress"] > before["progress"]
    )
    assert resumed["progress"] >= before["progress"]
    video = server.wait_done(video_id)
    assert server.content(video_id) == undisturbed
    assert video["stage_durations"]["denoise"] > 0


def test_jobs_survive_the_server(server, undisturbed):
    finished = server.submit(num_inference_steps=2)
    server.wait_done(finished)
    clip = server.content(finished)
    running = server.submit(num_inference_steps=STEPS)
    queued = server.submit(num_inference_steps=2)
    server.wait_for(running, midway)
    worker = psutil.Process(server.worker_pid())
    server.kill()
    worker.wait(10)  # it does not outlive the server
    server.start()
    assert server.video(finished)["status"] == "completed"
    assert server.content(finished) == clip
    assert server.video(running)["progress"] >= 20
    server.wait_done(running)
    assert server.content(running) == undisturbed
    server.wait_done(queued)


def clips_in(server) -> dict[str, int]:
    """The clips on the server's disk, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (server.data_dir / "artifacts").glob("*.mp4")}


def test_outputs_that_are_stored_survive_a_kill_and_are_not_made_again(server, undisturbed):
    before = clips_in(server)
    video_id = server.submit(n=2, num_inference_steps=STEPS)
    server.wait_for(video_id, lambda v: v["progress"] >= 55)  # it makes the second
    stored = clips_in(server).items() - before.items()
    server.kill()
    server.start()
    video = server.wait_done(video_id)
    made = clips_in(server).items() - before.items()
    assert (video["seeds"], len(made), len(stored) > 0, stored <= made) == ([1, 2], 2, True, True)
    assert server.content(video_id) == undisturbed
    alone = server.submit(seed=2, num_inference_steps=STEPS)
    server.wait_done(alone)
    assert server.client.get(f"/v1/videos/{video_id}/content?index=1").content == server.content(alone)
    for finished in (video_id, alone):
        server.client.delete(f"/v1/videos/{finished}")
    assert clips_in(server) == before


def test_a_stop_parks_the_running_job_and_the_next_start_goes_on(server, undisturbed):
    video_id = server.submit(num_inference_steps=STEPS)
    reached = server.wait_for(video_id, midway)["progress"]
    worker = psutil.Process(server.worker_pid())
    assert server.terminate() == 0
    assert not worker.is_running()
    server.start()
    assert server.video(video_id)["status"] == "queued"
    assert server.video(video_id)["progress"] >= reached
    server.wait_done(video_id)
    assert server.content(video_id) == undisturbed


def test_a_cancel_frees_the_worker_for_the_next_job(server):
    first = server.submit(num_inference_steps=200)
    second = server.submit(num_inference_steps=2)
    server.wait_for(first, lambda v: v["progress"] >= 2)
    assert server.client.delete(f"/v1/videos/{first}").status_code == 200
    server.wait_done(second)
    assert server.client.get(f"/v1/videos/{first}").status_code == 404


def test_a_generation_that_fails_leaves_the_worker_usable(server, red_picture):
    server.wait_ready()
    worker = server.worker_pid()
    blocker = server.submit(num_inference_steps=200)
    broken = server.submit(input_reference={"image_url": red_picture}, num_inference_steps=2)
    for picture in (server.data_dir / "artifacts").glob("*.png"):
        picture.unlink()
    server.client.delete(f"/v1/videos/{blocker}")
    failed = server.wait_for(broken, lambda v: v["status"] == "failed")
    assert failed["error"]["code"] == "not_found"
    assert str(server.data_dir) not in str(failed)
    server.wait_done(server.submit(num_inference_steps=2))
    assert server.worker_pid() == worker


@pytest.fixture
def red_picture(server):
    """A data URL of a picture in the bundled model's default size."""
    buffer = BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def test_a_model_that_cannot_be_loaded_ends_the_server_with_the_reason(make_server, tmp_path):
    (tmp_path / "model").mkdir()
    server = make_server(tmp_path / "data", model_path=str(tmp_path / "model"))
    server.start()
    assert server.wait_for_end() != 0
    assert "CheckpointError" in server.log.read_text()
