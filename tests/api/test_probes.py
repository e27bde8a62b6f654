from __future__ import annotations

import time


def test_the_process_is_alive_whatever_its_workers_do(client, house):
    house.scheduling.is_ready = False
    assert client.get("/live").json() == {"status": "alive"}
    assert client.head("/live").status_code == 200


def test_readiness_follows_the_workers(client, house):
    assert client.get("/health").json()["status"] == "healthy"
    house.scheduling.is_ready = False
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unhealthy", "reason": "The model is still being loaded."}
    house.scheduling.why = "The model cannot be loaded: no config."
    assert client.get("/health").json()["reason"] == "The model cannot be loaded: no config."
    assert client.head("/health").status_code == 503


def test_health_counts_tasks_and_free_places(client, house):
    ids = [client.post("/v1/videos", json={"prompt": "a red circle"}).json()["id"] for _ in range(3)]
    house.start(ids[0])
    told = client.get("/health").json()
    assert abs(told.pop("timestamp") - time.time()) < 60
    assert told.pop("uptime") >= 0
    assert told == {
        "status": "healthy",
        "rank": 0,
        "world_size": 1,
        "pipeline_rank": 0,
        "pipeline_world_size": 1,
        "total_tasks": 3,
        "service": {"name": "vitascope"},
        "resources": {"concurrent_tasks": 3, "max_concurrent": 257, "available_slots": 254},
    }
