from __future__ import annotations

import logging

import pytest


@pytest.mark.parametrize("path", ["/live", "/v1/videos", "/v1/videos/nope", "/nope"])
def test_every_answer_has_the_standard_headers(client, path):
    headers = client.get(path).headers
    assert headers["x-request-id"].startswith("req_")
    assert headers["openai-processing-ms"].isdigit()
    assert headers["x-content-type-options"] == "nosniff"


def test_request_ids_are_our_own_and_the_clients_comes_back_beside(client):
    answers = [client.get("/live", headers={"x-request-id": "mine-1.a_b"}) for _ in range(2)]
    assert answers[0].headers["x-request-id"] != answers[1].headers["x-request-id"]
    assert answers[0].headers["x-client-request-id"] == "mine-1.a_b"


@pytest.mark.parametrize("given", ["a b", "x" * 65, "a;b", "http://host", "ä".encode(), ""])
def test_a_malformed_client_id_is_not_echoed(client, given):
    assert "x-client-request-id" not in client.get("/live", headers={"x-request-id": given}).headers


def test_changes_and_refusals_are_logged_with_their_request_id_and_polls_are_not(client, caplog):
    with caplog.at_level(logging.INFO, logger="vitascope.api"):
        client.get("/v1/videos")
        client.get("/health")
        created = client.post("/v1/videos", json={"prompt": "a red circle"})
        client.post("/video/status", json={"requestId": created.json()["id"].removeprefix("video_")})
        missing = client.get("/v1/videos/nope")
    (queued,) = [record for record in caplog.records if record.message == "queued"]
    assert queued.job_id == created.json()["id"]
    lines = [(record.getMessage().rsplit(" in ")[0], record.request_id) for record in caplog.records]
    assert lines == [
        ("queued", created.headers["x-request-id"]),
        ("POST /v1/videos: 200", created.headers["x-request-id"]),
        ("GET /v1/videos/nope: 404", missing.headers["x-request-id"]),
    ]
