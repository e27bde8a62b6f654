"""Bodies, paths and headers that no good client sends: each has its refusal, none an error of the server's.

Some are written here, others are made by hypothesis; `make fuzz` sends more. The server is real but for its
workers.
"""

from __future__ import annotations

import http.client
import json
import re
import select
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_from_bytes, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vitascope.api.errors import error_model

QUICK_LIMIT = 2**20  # largest body
CREATE, CALL, STATUS = "/v1/videos", "/v1/video/generations", "/video/status"
ANSWERS = {200, 202, 206, 304, 400, 401, 403, 404, 405, 409, 413, 415, 416, 422, 429}
JSON, FORM = "application/json", "application/x-www-form-urlencoded"

# ---- what is sent always

BAD_JSON = [
    '{"prompt": NaN}',
    '{"prompt": "a", "prompt": "b"}',
    '{"seed": Infinity, "prompt": "a"}',
    "null",
    "[]",
    '{"\\ud800": 1, "prompt": "a"}',
    '{"prompt": "a\\u0000b"}',
    '{"prompt": "a", "model": "\\udfff"}',
    '{"prompt": "a", "extra_params": {"\\ud800": 1}}',
    '{"prompt": "a", "kwargs": "{\\"\\\\ud800\\": 1}"}',
    '{"prompt": "a", "input_reference": {"\\ud800": 1}}',
    '{"prompt": "a", "lora": [{"name": "\\ud800"}]}',
    "[" * 100_000,
    '{"a":' * 50_000,
    '{"prompt": "a", "extra_params": "' + "[" * 50_000 + '"}',
    '{"prompt": "a", "seed": ' + "9" * 5000 + "}",
    '{"prompt": "a", "fps": 1e999}',
]
BAD_FORMS = [
    b"&" * 1000,
    b"a=1&" * 300,
    b"%ff=%00",
    b"prompt=%ED%A0%80",
    b"prompt=\xff",
    b"prompt=a&prompt[x]=b",
    b"prompt[x]=a",
    b"prompt=a&lora[][name]=%00",
    b"a[b]c[d]=1",
]
BAD_QUERIES = [
    "limit=%00",
    "limit=-1",
    "limit=1e9",
    "limit=%D9%A3",
    "order=%ED%A0%80",
    "after=%00",
    "after=" + "a" * 9000,
    "limit=1&limit=2",
    "%ff=%ff",
]
BAD_HOSTS = [
    "127.0.0.1:abc",
    "127.0.0.1:99999999",
    "127.0.0.1@evil",
    "[::1",
    "localhost:",
    "127.0.0.1/..",
    "\xff",
]

# ---- what hypothesis makes

FIELDS = [
    "seed",
    "size",
    "model",
    "seconds",
    "extra_params",
    "lora",
    "input_reference",
    "kwargs",
    "n",
    "image_url",
]
WORDS = st.one_of(
    st.sampled_from([*FIELDS, "prompt", "a\0b"]),
    st.text(max_size=12),
    st.text(st.characters(categories=["Cs"]), max_size=3),
)
NUMBERS = st.one_of(st.integers(), st.just(10**400), st.floats(), st.sampled_from(["NaN", "1e999", "\u0663"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.fixed_dictionaries(
    {"prompt": st.just("a red circle moving")}, optional=dict.fromkeys(FIELDS, VALUES)
).map(json.dumps)
JSON_BODIES = st.one_of(
    st.binary(max_size=60),
    DOCUMENTS.map(str.encode),
    DOCUMENTS.map(lambda text: text.encode("utf-16")),
)
KEYS = ["a[b]", "a[", "a]b[", "lora[][name]", "seed[0]", "seed[2]", "a[][]", "x[a][b][c][d][e]"]
PAIRS = st.tuples(WORDS | st.sampled_from(KEYS), WORDS)


def escaped(text: str) -> str:
    return quote_from_bytes(text.encode(errors="surrogatepass"))


def in_a_form(pairs: list[tuple[str, str]]) -> bytes:
    return "&".join(f"{escaped(name)}={escaped(value)}" for name, value in pairs).encode()


FORM_BODIES = st.binary(max_size=60) | st.lists(PAIRS, max_size=6).map(in_a_form)
BOUNDARIES = st.sampled_from([b"x", b"x", b"", b"-" * 80, b"x y", b"\xff"])
DISPOSITIONS = st.sampled_from(
    [
        b"form-data",
        b"",
        b'form-data; name="prompt"; filename="../../etc/passwd"',
        b'attachment; name="a"',
        b'form-data; name="input_reference"; filename=""',
        b'form-data; name="prompt',
        b"form-data; name*=utf-8''%ff",
        b'form-data; name="image"; filename="image"',
        b'form-data; name="a[0][b]"',
        b"form-data; name=" + b"a" * 5000,
    ]
) | WORDS.map(lambda name: b'form-data; name="%s"' % name.encode(errors="surrogatepass"))
PARTS = st.tuples(
    st.just(b"Content-Disposition: "),
    DISPOSITIONS,
    st.sampled_from([b"", b"\r\nContent-Type: text/plain; charset=utf-7", b"\r\nX: " + b"y" * 3000]),
    st.sampled_from([b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\n", b""]),
    st.binary(max_size=40) | st.sampled_from([b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"\xff\xd8\xff"]),
).map(b"".join)
ENDS = st.sampled_from([b"--", b"--", b"", b"-", b"--\r\nmore"])
RANGES = [
    "bytes=0-0",
    "bytes=-0",
    "bytes=9999999-",
    "bytes=5-2",
    "bytes=0-1,3-4",
    "bytes=--1",
    "bytes=" + "9" * 30 + "-",
]
HEADERS = st.dictionaries(
    st.sampled_from(
        ["if-none-match", "if-range", "idempotency-key", "x-request-id", "authorization", "origin"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20),
    max_size=3,
)
HEADS = ["/v1/videos/", "/v1/models/", "/v1/requests/", "/videos/", "/v1/model_registrations/"]
TAILS = ["", "/content", "/content?variant=", "/events?preview=", "/progress", ".mp4", "/cancel", "?a=%00"]
METHODS = ["GET", "HEAD", "DELETE", "POST", "PUT", "OPTIONS"]


@pytest.fixture(scope="module")
def routes(quick_url) -> list[str]:
    """Every route that takes a body, as the document has it."""
    document = httpx.get(f"{quick_url}/openapi.json").json()
    paths = [path for path, methods in document["paths"].items() if "requestBody" in methods.get("post", {})]
    assert {CREATE, CALL, STATUS} <= set(paths)
    return [re.sub(r"{\w+}", "video_x", path) for path in paths]


@pytest.fixture
def fuzz(num_fuzz_examples):
    """The same examples each time."""
    return settings(
        max_examples=15 * num_fuzz_examples,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def ask(
    url: str, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, Any, bytes]:
    """Send what an HTTP library would refuse to; return status, headers and body."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=600)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True, skip_host="host" in headers)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            connection.putheader(name, value.encode("latin-1"))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def post(url: str, path: str, kind: str, body: bytes) -> int:
    return check(path, ask(url, "POST", path, {"content-type": kind}, body))


def check(path: str, answer: tuple[int, Any, bytes]) -> int:
    """Whatever was sent, the answer is a success or a refusal in the form that the path has."""
    status, headers, body = answer
    assert status in ANSWERS, body
    assert re.fullmatch(r"req_[0-9a-f]{32}", headers["x-request-id"])
    if status >= 400:
        assert headers["content-type"] == JSON
        error_model(path).model_validate_json(body)
    return status


def test_what_is_no_body_is_refused(quick_url, routes):
    for path in routes:
        for text in BAD_JSON:
            assert post(quick_url, path, JSON, text.encode()) >= 400, (path, text[:80])
        for form in BAD_FORMS:
            assert post(quick_url, path, FORM, form) >= 400, (path, form[:80])


@pytest.mark.parametrize(
    ("kind", "bodies"), [(JSON, JSON_BODIES), (FORM, FORM_BODIES)], ids=["JSON", "forms"]
)
def test_hostile_bodies(quick_url, routes, fuzz, kind, bodies):
    @fuzz
    @given(st.sampled_from(routes), bodies)
    def send(path: str, body: bytes) -> None:
        post(quick_url, path, kind, body)

    send()


def test_hostile_multipart_forms(quick_url, routes, fuzz):
    @fuzz
    @given(st.sampled_from(routes), BOUNDARIES, BOUNDARIES, st.lists(PARTS, max_size=4), ENDS)
    def send(path: str, said: bytes, boundary: bytes, parts: list[bytes], end: bytes) -> None:
        body = b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts) + b"--" + boundary + end
        post(quick_url, path, f"multipart/form-data; boundary={said.decode('latin-1')}", body)

    send()


def test_hostile_paths_and_headers(quick_url, fuzz):
    made = httpx.post(f"{quick_url}{CREATE}", json={"prompt": "a red circle"}).json()["id"]
    known = [
        made,
        made.removeprefix("video_"),
        "%00",
        "%ED%A0%80",
        "..%2f..%2fetc",
        "a" * 5000,
        "%2e%2e",
        "sync",
    ]
    names = st.sampled_from(known) | st.binary(max_size=12).map(quote_from_bytes)
    ranges = st.sampled_from([None, *RANGES])

    @fuzz
    @given(st.sampled_from(METHODS), st.sampled_from(HEADS), names, st.sampled_from(TAILS), ranges, HEADERS)
    def send(
        method: str, head: str, name: str, tail: str, wanted: str | None, headers: dict[str, str]
    ) -> None:
        if name == made and method == "DELETE":
            return  # the others ask for it
        headers |= {} if wanted is None else {"range": wanted}
        status, answered, body = ask(quick_url, method, head + name + tail, headers)
        if method == "HEAD":
            assert status in ANSWERS
            assert body == b""
        else:
            check(f"{head}x", (status, answered, body))

    send()


@pytest.mark.parametrize("wanted", RANGES)
def test_odd_ranges(quick_url, wanted):
    made = httpx.post(f"{quick_url}{CREATE}", json={"prompt": "a red circle"}).json()["id"]
    whole = httpx.get(f"{quick_url}{CREATE}/{made}/content").content
    answer = httpx.get(f"{quick_url}{CREATE}/{made}/content", headers={"range": wanted})
    assert check(CREATE, (answer.status_code, answer.headers, answer.content)) in {200, 206, 416}
    if answer.status_code != 416:
        assert answer.content == (whole[:1] if answer.status_code == 206 else whole)


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_odd_queries(quick_url, query):
    check(CREATE, ask(quick_url, "GET", f"{CREATE}?{query}", {}))


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_odd_hosts(quick_url, host):
    by_url = b'{"prompt": "a", "kwargs": {"response_format": "url"}}'
    for path, body in ((CALL, by_url), (STATUS, b'{"requestId": "%s"}' % (b"0" * 32))):
        check(path, ask(quick_url, "POST", path, {"content-type": JSON, "host": host}, body))


HEAD = b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def talk(url: str, *said: bytes, hang_up: bool = False) -> bytes:
    """Send bytes as they are; return what came."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=600) as connection:
        for data in said:
            connection.sendall(data)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_bodies_whose_length_is_wrong_or_unsaid(quick_url):
    body = b'{"prompt": "a red circle"}'
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    close = b"Connection: close\r\n\r\n"
    assert b" 200 OK" in talk(quick_url, HEAD + b"Transfer-Encoding: chunked\r\n" + close, chunked)
    assert b" 400 " in talk(quick_url, HEAD + b"Content-Length: 5\r\n" + close, body)
    cut_short = talk(quick_url, HEAD + b"Content-Length: 500\r\n\r\n", body, hang_up=True)
    assert cut_short[:12] in {b"", b"HTTP/1.1 400"}
    for wrong in (
        b"Content-Length: -1",
        b"Content-Length: x",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    ):
        answer = talk(quick_url, HEAD + wrong + b"\r\n" + close, b"zz\r\n")
        assert b" 400 " in answer[:20] or answer == b""
    assert post(quick_url, CREATE, JSON, body) == 200


def test_a_body_without_end_is_cut_at_the_limit(quick_url):
    place = urlsplit(quick_url)
    chunk = b"%x\r\n%s\r\n" % (2**16, b" " * 2**16)
    sent = 0
    with socket.create_connection((place.hostname, place.port), timeout=600) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.setblocking(False)
        while not select.select([connection], [connection], [], 60)[0]:
            sent += connection.send(chunk[sent % len(chunk) :])
            assert sent < 20 * QUICK_LIMIT  # the kernel's buffers take some
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "a", "extra_params": [' + b"{}," * 250_000 + b"{}]}",
        b'{"prompt": "a", "seed": [' + b"0," * 250_000 + b"0]}",
        b'{"prompt": "a", "extra_params": "' + b"[" * 500_000 + b'"}',
    ],
    ids=["objects", "numbers", "inside a text"],
)
def test_json_that_would_fill_the_memory_is_not_parsed(quick_url, body):
    answer = ask(quick_url, "POST", CREATE, {"content-type": JSON}, body)
    assert check(CREATE, answer) == 400
    assert b"more than" in answer[2]
