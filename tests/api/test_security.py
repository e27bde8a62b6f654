from __future__ import annotations

import pytest

CROSS_SITE = {"origin": "https://evil.example"}


@pytest.mark.parametrize(
    "path", ["/v1/videos", "/v1/videos/x", "/v1/models", "/docs", "/openapi.json", "/nope", "/health/x"]
)
def test_every_path_but_the_probes_asks_for_the_key(open_house, path):
    _, client = open_house(api_key="secret")
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/v1/video/generations", {"detail"}),
        ("/video/submit", {"detail"}),
        ("/videos/x.mp4", {"detail"}),
        ("/v1/models", {"error", "detail"}),
        ("/v1/videos/sync", {"error"}),
    ],
)
def test_each_dialect_reads_in_its_own_words_that_a_key_is_missing(open_house, path, keys):
    _, client = open_house(api_key="secret")
    answer = client.post(path, json={})
    assert (answer.status_code, answer.json().keys()) == (401, keys)


@pytest.mark.parametrize("name", ["api_key", "key", "token", "access_token"])
def test_a_key_in_the_url_where_logs_keep_it_opens_nothing(open_house, name):
    _, client = open_house(api_key="secret")
    assert client.get("/v1/videos", params={name: "secret"}).status_code == 401


@pytest.mark.parametrize("path", ["/live", "/health"])
def test_the_probes_are_open(open_house, path):
    _, client = open_house(api_key="secret")
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["//live", "/live/", "/live/..%2f..%2fv1/videos", "/v1/videos?x=/live", "/LIVE"]
)
def test_a_path_that_only_looks_like_a_probe_is_not_open(open_house, path):
    _, client = open_house(api_key="secret")
    assert client.get(path).status_code == 401


@pytest.mark.parametrize("header", ["Bearer secret", "bearer secret", "BEARER  secret"])
def test_the_key_opens(open_house, header):
    _, client = open_house(api_key="secret")
    assert client.get("/v1/videos", headers={"authorization": header}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Bearer wrong",
        "Bearer secret2",
        "Bearer secre",
        "Bearer",
        "Bearer ",
        "Basic secret",
        "secret",
        "Bearer \xe9",
    ],
)
def test_a_wrong_key_does_not_open_and_is_not_echoed(open_house, header):
    _, client = open_house(api_key="secret")
    answer = client.get("/v1/videos", headers={"authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert "secret" not in answer.text


def test_a_key_beyond_ascii_opens(open_house):
    _, client = open_house(api_key="schlüssel")
    headers = {"authorization": "Bearer schlüssel".encode()}
    assert client.get("/v1/videos", headers=headers).status_code == 200


def test_a_refused_client_cannot_create(open_house):
    house, client = open_house(api_key="secret")
    assert client.post("/v1/videos", json={"prompt": "x"}).status_code == 401
    assert not house.store.waiting()


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:9", "127.5.5.5", "[::1]:8000", "LOCALHOST"]
)
def test_loopback_names_are_served_on_a_loopback_bind(client, host):
    assert client.get("/v1/videos", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.1.1",
        "",
        "[::1",
        "a b",
        "0.0.0.0",
    ],
)
def test_foreign_hosts_are_refused_on_a_loopback_bind(client, host):
    answer = client.get("/v1/videos", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_the_host_that_the_operator_names_is_served(open_house):
    _, client = open_house(allowed_hosts=("video.example",))
    assert client.get("/v1/videos", headers={"host": "video.example:443"}).status_code == 200


def test_any_host_is_served_beyond_loopback(open_house):
    _, client = open_house(host="0.0.0.0", api_key="secret")
    headers = {"host": "video.example", "authorization": "Bearer secret"}
    assert client.get("/v1/videos", headers=headers).status_code == 200


def test_a_host_header_cannot_lead_past_the_key(open_house):
    _, client = open_house(host="0.0.0.0", api_key="secret")
    for host in ("x/live?", "x/health#", "/live"):
        assert client.get("/v1/videos", headers={"host": host}).status_code == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "file://"])
def test_another_sites_page_cannot_make_the_browser_write(client, house, origin):
    answer = client.post("/v1/videos", data={"prompt": "x"}, headers={"origin": origin})
    assert answer.status_code == 403
    assert not house.store.waiting()


def test_our_own_page_may_write(client):
    headers = {"origin": "http://127.0.0.1:8000"}
    assert client.post("/v1/videos", data={"prompt": "x"}, headers=headers).status_code == 200


def test_no_cors_headers_are_sent_by_default(client):
    answer = client.get("/v1/videos", headers=CROSS_SITE)
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_page_that_the_operator_names_may_call_without_its_preflight_needing_the_key(open_house):
    _, client = open_house(cors_origins=("https://app.example",), api_key="secret")
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    preflight = client.options("/v1/videos", headers=asked)
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in preflight.headers
    headers = {"origin": "https://app.example", "authorization": "Bearer secret"}
    assert client.post("/v1/videos", data={"prompt": "x"}, headers=headers).status_code == 200
    assert (
        "access-control-allow-origin"
        not in client.options("/v1/videos", headers={**asked, **CROSS_SITE}).headers
    )


def test_a_websocket_needs_the_key_too(open_house):
    from starlette.websockets import WebSocketDisconnect

    _, client = open_house(api_key="secret")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/anything"):
        pass


@pytest.mark.parametrize("length", ["999999999999", "9" * 5000])
def test_an_announced_length_over_the_limit_is_refused_unread(client, length):
    def never():
        raise AssertionError("the body was read")
        yield b""

    headers = {"content-length": length, "content-type": "application/json"}
    assert client.post("/v1/videos", content=b"{}", headers=headers).status_code == 413
