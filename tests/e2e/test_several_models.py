"""Several models on one server, launched and ended while it runs: real processes, the bundled model."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from vitascope.config import BUNDLED_MODEL

pytestmark = pytest.mark.timeout(1800)  # every load starts a process

BUDGET_BYTES = 60_000_000  # for one bundled model, not for two
FIRST = "vitascope-tiny"


def launch(server, uid: str, path=BUNDLED_MODEL, *, wait: bool = True):
    body = {"model_uid": uid, "model_name": uid, "model_path": str(path), "model_type": "video"}
    query = {"wait_ready": str(wait).lower()}
    return server.client.post("/v1/models", json=body, params=query)


def states(server) -> dict[str, str]:
    listed = server.client.get("/v1/models/instances").json()
    return {entry["model_uid"]: entry["state"] for entry in listed}


def served(server) -> list[str]:
    return [model["id"] for model in server.client.get("/v1/models").json()["data"]]


@pytest.fixture(scope="module")
def server(server_on, tmp_path_factory):
    """A server whose first model has another beside it; each test leaves both."""
    with server_on(tmp_path_factory.mktemp("several") / "data") as server:
        assert launch(server, "second").json()["model_uid"] == "second"
        yield server


def test_requests_run_on_the_model_that_they_name(server):
    assert served(server) == [FIRST, "second"]
    with ThreadPoolExecutor() as pool:
        ids = list(pool.map(lambda name: server.submit(model=name, num_inference_steps=4), [FIRST, "second"]))
    videos = [server.wait_done(video_id) for video_id in ids]
    assert [video["model"] for video in videos] == [FIRST, "second"]
    by_default = server.wait_done(server.submit(num_inference_steps=4))
    assert by_default["model"] == FIRST
    first, second = (server.content(video_id) for video_id in ids)
    assert first[4:8] == second[4:8] == b"ftyp"
    unknown = server.client.post("/v1/videos", json={"prompt": "x", "model": "third"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "model_not_found")


def test_a_broken_checkpoint_leaves_the_server_up(server, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    answer = launch(server, "broken", tmp_path / "broken")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "launch_failed")
    assert str(tmp_path) not in answer.text
    assert states(server) == {FIRST: "ready", "second": "ready", "broken": "error"}
    server.wait_done(server.submit(model="second", num_inference_steps=2))
    assert server.client.delete("/v1/models/broken").status_code == 200


def test_a_launch_is_cancelled_and_leaves_nothing(server):
    pids = set(server.worker_pids())
    with server.holds.loading_held():
        assert launch(server, "third", wait=False).status_code == 200
        refused = server.client.post("/v1/videos", json={"prompt": "x", "model": "third"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_loading")
        assert server.client.post("/v1/models/third/cancel").status_code == 200
    assert states(server) == {FIRST: "ready", "second": "ready"}
    assert set(server.worker_pids()) == pids


def test_the_launched_models_and_their_jobs_survive_a_kill(server):
    with server.holds.held(3):
        ids = [server.submit(model="second", num_inference_steps=steps) for steps in (8, 2)]
        server.wait_for(ids[0], lambda video: video["progress"] > 0)
        server.kill()
    server.start()
    for video_id in ids:
        assert server.wait_done(video_id)["model"] == "second"
    assert states(server)["second"] == "ready"
    server.wait_ready()


def test_jobs_of_a_terminated_model_fail_and_it_may_be_launched_again(server):
    with server.holds.held(1):
        running = server.submit(model="second")
        waiting = server.submit(model="second")
        server.wait_for(running, lambda video: video["progress"] > 0)
        assert server.client.delete("/v1/models/second").status_code == 200
    for video_id in (running, waiting):
        video = server.wait_for(video_id, lambda v: v["status"] == "failed")
        assert video["error"]["code"] == "model_not_available"
    assert served(server) == [FIRST]
    assert launch(server, "second").status_code == 200


def test_the_model_used_longest_ago_makes_room_and_comes_back_for_its_job(server_on, tmp_path):
    settings = {"memory_budget_bytes": BUDGET_BYTES, "unload_idle": True}
    with server_on(tmp_path / "data", **settings) as server:
        assert launch(server, "second").status_code == 200
        assert states(server) == {FIRST: "unloaded", "second": "ready"}
        assert server.client.get("/health").status_code == 200
        with server.holds.held(4):
            busy = server.submit(model="second", num_inference_steps=4)
            waiting = server.submit(model=FIRST, num_inference_steps=6)
            after = server.submit(model="second", num_inference_steps=4)
            server.wait_for(busy, lambda video: video["progress"] > 0)
            assert states(server)[FIRST] != "ready"  # there is no room for it yet
            server.holds.at(5)
            assert server.wait_done(busy)["model"] == "second"
            server.wait_for(waiting, lambda video: video["progress"] > 0)
            assert states(server)[FIRST] == "ready"
        assert server.wait_done(waiting)["model"] == FIRST
        server.client.delete(f"/v1/videos/{after}")
