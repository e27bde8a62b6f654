from __future__ import annotations


def test_the_process_is_alive_whatever_its_workers_do(client, house):
    house.scheduling.is_ready = False
    assert client.get("/live").json() == {"status": "alive"}
    assert client.head("/live").status_code == 200


def test_readiness_follows_the_workers(client, house):
    assert client.get("/health").json() == {"status": "healthy"}
    house.scheduling.is_ready = False
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unhealthy", "reason": "The model is still being loaded."}
    house.scheduling.why = "The model cannot be loaded: no config."
    assert client.get("/health").json()["reason"] == "The model cannot be loaded: no config."
    assert client.head("/health").status_code == 503
