"""The same promises with jobs in PostgreSQL: real processes, of which each is killed in turn."""

from __future__ import annotations

import httpx
import pytest

pytestmark = pytest.mark.slow

STEPS = 60


def reached(percent: int):
    return lambda video: video["progress"] >= percent


def test_a_job_survives_its_worker_its_server_and_its_database(server_on, postgresql, tmp_path):
    url = postgresql.new_database()
    with server_on(tmp_path / "data", database_url=url) as server:
        undisturbed = server.submit(num_inference_steps=STEPS)
        server.wait_done(undisturbed)
        disturbed = server.submit(num_inference_steps=STEPS)
        server.wait_for(disturbed, reached(10))
        server.kill_worker()
        server.wait_for(disturbed, reached(30))
        server.kill()
        server.start()
        server.wait_for(disturbed, reached(50))
        postgresql.stop()
        refused = server.client.get(f"/v1/videos/{disturbed}")
        postgresql.start()
        assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert (refused.json()["error"]["code"], refused.headers["retry-after"]) == ("store_unavailable", "5")
        server.wait_done(disturbed)
        assert server.content(disturbed) == server.content(undisturbed)
        assert server.terminate() == 0
        assert not (server.data_dir / "jobs.sqlite3").exists()
        assert "pa%20ss" not in server.log.read_text()
