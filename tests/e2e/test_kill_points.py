"""`kill -9` between every two writes: real processes, killed exactly there, started again.

Whoever dies, the job ends completed once, with the bytes of an undisturbed run; no file that is served is
half a file; and what nobody needs is gone after the next looks of the sweeper. `make kills` runs it.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import time
from contextlib import closing
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from vitascope.config import BUNDLED_MODEL
from vitascope.jobs.job import State
from vitascope.jobs.moves import DELETED_GRACE_S
from vitascope.jobs.retention import ORPHAN_LOOK_S, ORPHAN_LOOKS, Sweeper
from vitascope.jobs.sql import SqlStore
from vitascope.media.artifacts import FolderArtifacts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FIELDS = {"num_inference_steps": 3, "num_frames": 5, "n": 2}  # two outputs: the first is stored by itself
IN_WORKER = (
    "after publishing safetensors",  # a saved state is there, and nobody was told
    "before publishing mp4",
    "after syncing mp4",  # all of it is on the disk, under its temporary name
    "after publishing mp4",  # under its own name, the files beside it are not made
    "after publishing jpg",  # all files are there, and nobody was told
    "after sending OutputStored",
    "after sending Finished",
)
IN_WORKER_OF_A_KILLED_SERVER = (
    "after publishing mp4",
    "after sending Checkpointed",
    "after sending Finished",
)
IN_SERVER = tuple(
    f"{when} {what}"
    for what in ("submit", "claim", "checkpoint", "store_output", "succeed")
    for when in ("before", "after")
)


@pytest.fixture(scope="module")
def server(server_on, tmp_path_factory):
    """A server that these tests kill; each leaves one that listens."""
    with server_on(tmp_path_factory.mktemp("kills") / "data") as server:
        yield server


@pytest.fixture
def faults(server):
    """Where processes of the server are killed; nowhere in the end, when it listens again."""
    yield server.faults
    server.faults.disarm()
    if server.process.poll() is not None:
        server.start()


def clips_of(server, video_id: str) -> list[bytes]:
    clips = [server.client.get(f"/v1/videos/{video_id}/content?index={index}") for index in (0, 1)]
    assert [clip.status_code for clip in clips] == [200, 200]
    return [clip.content for clip in clips]


@pytest.fixture(scope="module")
def undisturbed(server) -> list[bytes]:
    """Both clips as an undisturbed run makes them."""
    video_id = server.submit(**FIELDS)
    server.wait_done(video_id)
    return clips_of(server, video_id)


def again(server) -> None:
    """Start a server that was killed."""
    server.wait_for_end()
    server.start()


def submit_surely(server, key: str, **fields: Any) -> str:
    """Submit as a client should: under a key, and again if there was no answer."""
    headers = {"Idempotency-Key": key.replace(" ", "-")}
    body = {"prompt": "a red circle moving right on a blue background", "seed": 1, **FIELDS, **fields}
    while True:
        server.wait_ready()
        try:
            answer = server.client.post("/v1/videos", json=body, headers=headers)
        except httpx.TransportError:
            again(server)
        else:
            assert answer.status_code == 200, answer.text
            return answer.json()["id"]


def check_files(server) -> None:
    """Whatever a job names is whole; what none names goes with the next looks; nothing is half written."""
    artifacts = FolderArtifacts(server.data_dir / "artifacts")
    ticks = itertools.count(step=ORPHAN_LOOK_S)
    with closing(SqlStore(f"sqlite:///{server.data_dir / 'jobs.sqlite3'}")) as store:
        sweeper = Sweeper(
            store, artifacts, clock=lambda: time.time() + DELETED_GRACE_S, ticks=lambda: next(ticks)
        )
        for _ in range(ORPHAN_LOOKS):
            sweeper.sweep()
        done = [job for job in store.page(after=None, limit=1000, order="asc")[0] if job.files]
        for job in done:
            assert job.state is State.SUCCEEDED
            assert sorted((file.variant, file.output) for file in job.files) == sorted(
                itertools.product(("spritesheet", "thumbnail", "video"), range(job.request.num_outputs))
            )
        files = [file for job in done for file in job.files]
        for file in files:
            assert hashlib.sha256(artifacts.path(file.key).read_bytes()).hexdigest() == file.sha256
        assert set(artifacts.keys()) == store.keys_in_use()
        assert list(store.gone(math.inf)) == []
    assert list((server.data_dir / "artifacts" / "pending").iterdir()) == []


@pytest.mark.parametrize(
    ("place", "victim"),
    [
        *((place, "self") for place in IN_WORKER),
        *((place, "server") for place in IN_WORKER_OF_A_KILLED_SERVER),
        *((place, "self") for place in IN_SERVER),
    ],
)
def test_a_job_is_made_once_and_its_files_are_whole(server, faults, undisturbed, place, victim):
    server_dies = victim == "server" or place in IN_SERVER
    before = server.client.get("/v1/videos?limit=100").json()["data"]
    faults.arm(place, victim)
    video_id = submit_surely(server, f"{place}, {victim}")
    if server_dies and not place.endswith("submit"):
        again(server)
    video = server.wait_done(video_id)
    assert not faults.is_armed(place)
    assert video["seeds"] == [1, 2]
    assert clips_of(server, video_id) == undisturbed
    assert submit_surely(server, f"{place}, {victim}") == video_id
    there = server.client.get("/v1/videos?limit=100").json()["data"]
    assert [made["id"] for made in there] == [video_id, *(made["id"] for made in before)][:100]
    check_files(server)


def test_a_server_that_is_killed_again_while_it_recovers_loses_nothing(server, faults, undisturbed):
    faults.arm("after sending Checkpointed", "server")
    video_id = submit_surely(server, "recovers")
    for place in ("before requeue", "after requeue"):
        faults.arm(place)
        again(server)  # its address is told before it recovers
    again(server)
    server.wait_done(video_id)
    assert clips_of(server, video_id) == undisturbed
    check_files(server)


@pytest.mark.parametrize("place", ["before delete", "after delete", "after removing a file"])
def test_a_clip_that_is_being_deleted_is_there_whole_or_gone(server, faults, undisturbed, place):
    video_id = submit_surely(server, f"deleted {place}")
    server.wait_done(video_id)
    faults.arm(place)
    with pytest.raises(httpx.TransportError):
        server.client.delete(f"/v1/videos/{video_id}")
    again(server)
    if place == "before delete":
        assert clips_of(server, video_id) == undisturbed
        assert server.client.delete(f"/v1/videos/{video_id}").status_code == 200
    assert server.client.get(f"/v1/videos/{video_id}").status_code == 404
    assert server.client.get(f"/v1/videos/{video_id}/content").status_code == 404
    check_files(server)


@pytest.mark.parametrize("place", ["before put_content", "after put_content", "after submit"])
def test_a_picture_is_there_for_its_job_whenever_the_server_died(server, faults, place):
    picture = BytesIO()
    Image.new("RGB", (64, 64), "red").save(picture, "PNG")
    url = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    faults.arm(place)
    video_id = submit_surely(server, place, input_reference={"image_url": url})
    assert not faults.is_armed(place)
    server.wait_done(video_id)
    check_files(server)


def launch(server, uid: str) -> httpx.Response:
    body = {"model_uid": uid, "model_name": uid, "model_path": str(BUNDLED_MODEL), "model_type": "video"}
    return server.client.post("/v1/models", json=body, params={"wait_ready": "false"})


def refused_as(server, uid: str) -> tuple[int, str]:
    answer = server.client.post("/v1/videos", json={"prompt": "x", "model": uid})
    return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture
def second(server):
    """The name of a second model; nothing of it is left."""
    yield "second"
    server.holds.release()
    if "second" in server.model_states():
        assert server.client.delete("/v1/models/second").status_code == 200


@pytest.mark.parametrize("place", ["before remember", "after remember", "before load", "after load"])
def test_a_launch_is_known_or_unknown_after_the_server_died_in_it(server, faults, second, place):
    faults.arm(place)
    with pytest.raises(httpx.TransportError):
        launch(server, second)
    server.wait_for_end()
    with server.holds.loading_held():
        server.start()
        known = server.model_states().get(second)
        assert known == (None if place == "before remember" else "loading")
        assert refused_as(server, second) == (503, "model_loading")  # of any, before the first is there
    server.wait_ready()
    if known is None:
        assert refused_as(server, second) == (400, "model_not_found")
        assert launch(server, second).status_code == 200
    server.wait_loaded(second)
    server.wait_done(server.submit(model=second, **FIELDS))


def test_a_model_that_was_being_loaded_is_loaded_again(server, second):
    with server.holds.loading_held():
        assert launch(server, second).status_code == 200
        server.kill()
        server.start()
        assert server.model_states()[second] == "loading"
    server.wait_loaded(second)
    video_id = server.submit(model=second, **FIELDS)
    server.kill()
    server.start()
    assert server.wait_done(video_id)["model"] == second
    check_files(server)


@pytest.mark.parametrize("place", ["before forget", "after forget"])
def test_a_termination_has_happened_or_not_after_the_server_died_in_it(server, faults, second, place):
    assert launch(server, second).status_code == 200
    server.wait_loaded(second)
    with server.holds.held(1):
        jobs = [server.submit(model=second, **FIELDS) for _ in range(2)]
        server.wait_for(jobs[0], lambda video: video["progress"] > 0)
        faults.arm(place)
        with pytest.raises(httpx.TransportError):
            server.client.delete(f"/v1/models/{second}")
        again(server)
    if place == "before forget":
        assert server.model_states()[second] in {"loading", "ready"}
        for job in jobs:
            assert server.wait_done(job)["model"] == second
    else:
        assert second not in server.model_states()
        server.wait_ready()
        assert refused_as(server, second) == (400, "model_not_found")
        for job in jobs:
            ended = server.wait_for(job, lambda video: video["status"] == "failed")
            assert ended["error"]["code"] == "model_not_available"
    check_files(server)
