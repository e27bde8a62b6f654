"""Nothing is lost and nothing lies, whoever is killed: real processes, the bundled model."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from io import BytesIO

import psutil
import pytest
from PIL import Image

STEPS, HALF = 12, 6  # where jobs are held while something befalls them
PROMPT = "a red circle moving right on a blue background"


@pytest.fixture(scope="module")
def server(server_on, tmp_path_factory):
    """A server that these tests kill; each leaves one that is running."""
    with server_on(tmp_path_factory.mktemp("durability") / "data") as server:
        yield server


@pytest.fixture
def holds(server):
    """Where the workers of the server, which is ready by then, are held; they are let go in the end."""
    server.wait_ready()
    yield server.holds
    server.holds.release()


@pytest.fixture(scope="module")
def undisturbed(server):
    """The clip of seed 1 as an undisturbed run makes it."""
    server.wait_ready()
    video_id = server.submit(num_inference_steps=STEPS)
    server.wait_done(video_id)
    return server.content(video_id)


def wait_halfway(server, video_id) -> int:
    """Return the progress of a job once it is held in the middle."""
    reached = server.wait_for(video_id, lambda video: video["progress"] >= 100 * HALF // STEPS)
    assert reached["status"] == "in_progress"
    return reached["progress"]


def test_progress_is_true_and_the_clip_is_there_when_it_says_so(server, holds):
    holds.at(5)
    video_id = server.submit(num_inference_steps=20)
    seen = []

    def at(percent):
        def look(video):
            seen.append((video["status"], video["progress"]))
            return video["progress"] == percent

        return server.wait_for(video_id, look)

    assert at(25)["status"] == "in_progress"
    holds.at(10)
    assert at(50)["status"] == "in_progress"
    holds.release()
    video = at(100)
    assert video["status"] == "completed"
    percents = [percent for _, percent in seen]
    assert percents == sorted(percents)
    assert {percent % 5 for percent in percents} <= {0, 99 % 5}  # whole steps of twenty
    assert set(video["stage_durations"]) == {"encode", "denoise", "decode", "finish"}
    assert server.content(video_id)[4:8] == b"ftyp"


def test_a_job_survives_its_worker_and_makes_the_same_bytes(server, holds, undisturbed):
    holds.at(HALF)
    video_id = server.submit(num_inference_steps=STEPS)
    before = wait_halfway(server, video_id)
    server.kill_worker()
    holds.release()
    resumed = server.wait_for(video_id, lambda v: v["status"] == "queued" or v["progress"] > before)
    assert resumed["progress"] >= before
    video = server.wait_done(video_id)
    assert server.content(video_id) == undisturbed
    assert video["stage_durations"]["denoise"] > 0


def test_an_extension_whose_worker_dies_and_whose_clip_is_deleted_ends_with_the_same_bytes(server, holds):
    source = server.submit(num_inference_steps=2, num_frames=5)
    server.wait_done(source)
    fields = {"num_frames": 17, "num_inference_steps": STEPS, "seed": 5}
    body = {"prompt": PROMPT, "video": {"id": source}, **fields}
    alone = server.client.post("/v1/videos/extensions", json=body).json()["id"]
    server.wait_done(alone)
    holds.at(HALF)
    killed = server.client.post("/v1/videos/extensions", json=body).json()["id"]
    server.client.delete(f"/v1/videos/{source}")
    wait_halfway(server, killed)
    server.kill_worker()
    holds.release()
    server.wait_done(killed)
    assert server.content(killed) == server.content(alone)


def test_jobs_survive_the_server(server, holds, undisturbed):
    finished = server.submit(num_inference_steps=2)
    server.wait_done(finished)
    clip = server.content(finished)
    holds.at(HALF)
    running = server.submit(num_inference_steps=STEPS)
    queued = server.submit(num_inference_steps=2)
    before = wait_halfway(server, running)
    worker = psutil.Process(server.worker_pid())
    server.kill()
    worker.wait(600)  # it does not outlive the server
    server.start()
    assert server.video(finished)["status"] == "completed"
    assert server.content(finished) == clip
    assert server.video(running)["progress"] >= before
    holds.release()
    server.wait_done(running)
    assert server.content(running) == undisturbed
    server.wait_done(queued)


def clips_in(server) -> dict[str, int]:
    """The clips on the server's disk, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (server.data_dir / "artifacts").glob("*.mp4")}


def named_in_its_row(server, video_id) -> list[dict]:
    """The files that the job's row names by now."""
    with closing(sqlite3.connect(server.data_dir / "jobs.sqlite3")) as connection:
        [files] = connection.execute("SELECT files FROM jobs WHERE id = ?", (video_id,)).fetchone()
    return json.loads(files)


def test_outputs_that_are_stored_survive_a_kill_and_are_not_made_again(server, holds, undisturbed):
    before = clips_in(server)
    holds.at(STEPS + HALF)  # of the second
    video_id = server.submit(n=2, num_inference_steps=STEPS)
    server.wait_for(video_id, lambda _: named_in_its_row(server, video_id))
    stored = clips_in(server).items() - before.items()
    server.kill()
    server.start()
    holds.release()
    video = server.wait_done(video_id)
    made = clips_in(server).items() - before.items()
    assert (video["seeds"], len(made), len(stored), stored <= made) == ([1, 2], 2, 1, True)
    assert server.content(video_id) == undisturbed
    alone = server.submit(seed=2, num_inference_steps=STEPS)
    server.wait_done(alone)
    assert server.client.get(f"/v1/videos/{video_id}/content?index=1").content == server.content(alone)
    for finished in (video_id, alone):
        server.client.delete(f"/v1/videos/{finished}")
    assert clips_in(server) == before


def test_a_stop_parks_the_running_job_and_the_next_start_goes_on(server, holds, undisturbed):
    holds.at(HALF)
    video_id = server.submit(num_inference_steps=STEPS)
    before = wait_halfway(server, video_id)
    worker = psutil.Process(server.worker_pid())
    assert server.terminate() == 0
    assert not worker.is_running()
    server.start()
    video = server.video(video_id)
    assert video["status"] in {"queued", "in_progress"}  # its worker may be ready by now
    assert video["progress"] >= before
    holds.release()
    server.wait_done(video_id)
    assert server.content(video_id) == undisturbed


def jobs_of(server) -> set[str]:
    return {video["id"] for video in server.client.get("/v1/videos?limit=100").json()["data"]}


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize(
    ("end", "said"),
    [("kill", {"000"}), ("terminate", {"503", "000"})],  # on a machine that is too busy to answer it is cut
)
def test_nothing_is_left_of_what_was_waited_for_when_the_server_ended(server, holds, end, said):
    before, logged = jobs_of(server), len(server.log.read_text())
    holds.at(1)
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{server.url}/v1/videos/sync"]
    with subprocess.Popen([*command, "-F", f"prompt={PROMPT}"], stdout=subprocess.PIPE, text=True) as curl:
        while not (new := jobs_of(server) - before):
            assert curl.poll() is None
        [job_id] = new
        server.wait_for(job_id, lambda video: video["progress"] > 0)
        if end == "kill":
            server.kill()
        else:
            assert server.terminate() == 0
        assert curl.stdout.read() in said
    server.start()
    assert jobs_of(server) == before
    assert "Traceback" not in server.log.read_text()[logged:]


def test_a_cancel_frees_the_worker_for_the_next_job(server, holds):
    holds.at(5)
    first = server.submit(num_inference_steps=STEPS)
    second = server.submit(num_inference_steps=2)
    server.wait_for(first, lambda video: video["progress"] > 0)
    assert server.client.delete(f"/v1/videos/{first}").status_code == 200
    server.wait_done(second)
    assert server.client.get(f"/v1/videos/{first}").status_code == 404


def test_a_generation_that_fails_leaves_the_worker_usable(server, holds, red_picture):
    worker = server.worker_pid()
    holds.at(1)
    blocker = server.submit()
    broken = server.submit(input_reference={"image_url": red_picture}, num_inference_steps=2)
    for picture in (server.data_dir / "artifacts").glob("*.png"):
        picture.unlink()
    server.client.delete(f"/v1/videos/{blocker}")
    failed = server.wait_for(broken, lambda v: v["status"] == "failed")
    assert failed["error"]["code"] == "not_found"
    assert str(server.data_dir) not in str(failed)
    holds.release()
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
    server = make_server(tmp_path / "data", own_worker=True, model_path=str(tmp_path / "model"))
    server.start()
    assert server.wait_for_end() != 0
    assert "CheckpointError" in server.log.read_text()
