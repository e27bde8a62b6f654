"""`vitascope jobs` against a real server."""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vitascope.cli.app import run


@pytest.fixture
def jobs(shared_server, capsys, monkeypatch, tmp_path):
    """Run `vitascope jobs` in an empty folder; returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("VITASCOPE_URL", shared_server.url)

    def call(*args):
        capsys.readouterr()
        return (run(["jobs", *args]), *capsys.readouterr())

    return call


@pytest.fixture
def done(shared_server):
    video_id = shared_server.submit(num_inference_steps=2, num_frames=5)
    shared_server.wait_done(video_id)
    return video_id


def test_a_finished_job_is_listed_shown_and_watched(jobs, done):
    status, out, _ = jobs("list")
    assert status == 0
    assert any(line.startswith(done) and "completed" in line and "a red circle" in line
               for line in out.splitlines())  # fmt: skip
    status, out, _ = jobs("show", done)
    assert status == 0
    assert {"status           completed", "num_frames       5"} <= {*out.splitlines()}
    status, out, _ = jobs("watch", done)
    assert (status, out.startswith(f"{done} completed in ")) == (0, True)


def test_scripts_get_json(jobs, done, shared_server):
    assert json.loads(jobs("show", done, "--json")[1]) == shared_server.video(done)
    assert done in [video["id"] for video in json.loads(jobs("list", "--json")[1])]
    assert len(json.loads(jobs("list", "--limit", "1", "--json")[1])) == 1
    (line,) = jobs("watch", done, "--json")[1].splitlines()
    assert json.loads(line) == {"event": "done", **shared_server.video(done)}


def test_more_jobs_than_a_page_holds_are_all_listed(jobs, done, shared_server, monkeypatch):
    monkeypatch.setattr("vitascope.cli.remote.PAGE", 1)
    another = shared_server.submit(num_inference_steps=1, num_frames=1)
    ids = [video["id"] for video in json.loads(jobs("list", "--json")[1])]
    assert len(ids) == len(set(ids))
    assert {another, done} <= {*ids}
    shared_server.wait_done(another)


def test_a_download_is_the_servers_bytes_and_overwrites_nothing(jobs, done, shared_server, tmp_path):
    status, out, _ = jobs("download", done)
    assert (status, out.startswith(f"{done}.mp4 (")) == (0, True)
    file = tmp_path / f"{done}.mp4"
    assert file.read_bytes() == shared_server.content(done)
    file.write_bytes(b"mine")
    status, _, err = jobs("download", done)
    assert (status, err) == (
        1, f"error: {done}.mp4 exists; choose another name or use --overwrite.\n",
    )  # fmt: skip
    assert file.read_bytes() == b"mine"
    assert jobs("download", done, "--overwrite")[0] == 0
    assert jobs("download", done, "-o", "other.mp4")[0] == 0
    assert (tmp_path / "other.mp4").read_bytes() == file.read_bytes() == shared_server.content(done)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, "other.mp4"])


def test_each_of_several_clips_is_downloaded_by_its_index(jobs, shared_server, tmp_path):
    several = shared_server.submit(n=2, num_inference_steps=2, num_frames=5)
    shared_server.wait_done(several)
    assert jobs("download", several, "--index", "1")[0] == 0
    second = shared_server.client.get(f"/v1/videos/{several}/content?index=1").content
    assert (tmp_path / f"{several}-1.mp4").read_bytes() == second != shared_server.content(several)
    status, _, err = jobs("download", several, "--index", "2")
    assert (status, "There is no output 2; this video has 2" in err) == (1, True)
    shared_server.client.delete(f"/v1/videos/{several}")


def test_a_running_job_is_cancelled_and_its_watch_says_so(jobs, shared_server, holds, tmp_path):
    holds.at(1)
    video_id = shared_server.submit()
    shared_server.wait_for(video_id, lambda video: video["status"] == "in_progress")
    status, _, err = jobs("download", video_id)
    assert (status, "not ready" in err, list(tmp_path.iterdir())) == (1, True, [])
    assert jobs("cancel", video_id)[0] == 0
    status, out, _ = jobs("watch", video_id)
    assert (status, out) == (3, f"{video_id} was cancelled\n")
    assert jobs("cancel", video_id)[1] == f"{video_id}: cancelled\n"


def test_a_watch_follows_a_job_from_its_first_step_to_its_end(shared_server, holds, monkeypatch):
    monkeypatch.setenv("VITASCOPE_URL", shared_server.url)
    monkeypatch.setattr("sys.stdout", out := io.StringIO())
    holds.at(3)
    video_id = shared_server.submit(num_inference_steps=6, num_frames=5)
    with ThreadPoolExecutor(1) as pool:
        watch = pool.submit(run, ["jobs", "watch", video_id, "--json"])
        while '"step": 3' not in out.getvalue() and not watch.done():
            time.sleep(0.01)
        holds.release()
    *running, end = map(json.loads, out.getvalue().splitlines())
    assert (watch.result(), end["event"], end["status"]) == (0, "done", "completed")
    steps = [event["step"] for event in running]
    assert 3 in steps
    assert steps == sorted(steps)
    assert {event["event"] for event in running} == {"status"}


def test_a_deleted_job_is_gone(jobs, done):
    assert jobs("delete", done)[:2] == (0, f"{done}: deleted\n")
    status, _, err = jobs("show", done)
    assert (status, err) == (1, f"error: Video with id '{done}' not found.\n")


@pytest.mark.parametrize("strange", ["../models", "a/../../health", "x?y=1", "x#y", "ä"])
def test_no_id_leads_anywhere_else(jobs, strange):
    status, out, err = jobs("show", strange)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
