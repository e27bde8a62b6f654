from __future__ import annotations

import io
import logging

import pytest

from vitascope import errors
from vitascope.api.errors import UNFORESEEN, envelope
from vitascope.errors import VitascopeError


def every_error(root=VitascopeError):
    for kind in root.__subclasses__():
        yield kind
        yield from every_error(kind)


@pytest.mark.parametrize("kind", sorted(set(every_error()), key=lambda kind: kind.__name__))
def test_every_error_of_the_tree_has_its_envelope_and_its_advice(kind):
    answer = envelope(kind("Say what would do."))
    assert answer.status_code == kind.status
    assert ("retry-after" in answer.headers) == (kind.retryable and kind.status in {429, 503})
    assert ("x-should-retry" in answer.headers) == (kind.status >= 500 and not kind.retryable)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_url"),
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/v1/videos/", 404, "unknown_url"),
        ("POST", "/v1/nothing", 404, "unknown_url"),
        ("PUT", "/v1/videos", 405, "method_not_allowed"),
        ("PATCH", "/v1/videos/x", 405, "method_not_allowed"),
        ("POST", "/live", 405, "method_not_allowed"),
    ],
)
def test_the_routers_own_refusals_are_envelopes(client, method, path, status, code):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_wrong_method_is_told_all_right_ones(client):
    assert client.request("OPTIONS", "/v1/videos").headers["allow"] == "GET, POST"
    assert client.put("/v1/videos/x").headers["allow"] == "DELETE, GET"


def test_an_unforeseen_error_is_logged_whole_and_shown_as_one_sentence(client, house, caplog, monkeypatch):
    def broken(job_id):
        raise RuntimeError("/secret/path and a password")

    monkeypatch.setattr(house.store, "get", broken)
    with caplog.at_level(logging.ERROR, logger="vitascope.api"):
        answer = client.get("/v1/videos/video_x")
    assert answer.status_code == 500
    assert answer.json() == {
        "error": {"message": UNFORESEEN, "type": "server_error", "param": None, "code": "internal_error"}
    }
    assert answer.headers["x-should-retry"] == "false"
    assert "password" in caplog.text
    assert caplog.records[0].request_id == answer.headers["x-request-id"]


def test_an_error_after_the_answer_began_breaks_the_connection_instead_of_lying(
    client, house, submitted, monkeypatch
):
    house.finish(submitted)

    class Torn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise errors.NotFound("gone")

    monkeypatch.setattr(house.artifacts, "open", lambda key: Torn())
    with pytest.raises(Exception, match="gone"):
        client.get(f"/v1/videos/{submitted}/content")
