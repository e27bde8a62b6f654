"""The real fetcher; a stand-in network leads one public address to a server on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import pytest

from vitascope.api.fetcher import MAX_REDIRECTS, Fetcher, Policy, are_public, resolve
from vitascope.errors import InvalidMedia

PUBLIC = "93.184.216.34"
HOSTS = {
    "pictures.example": [PUBLIC],
    "cdn.pictures.example": [PUBLIC],
    "notpictures.example": [PUBLIC],
    "inside.example": ["10.0.0.7"],
    "mixed.example": [PUBLIC, "127.0.0.1"],
    "two.example": ["93.184.216.35", PUBLIC],
}


class Site(BaseHTTPRequestHandler):
    """Answers by path; remembers what it was asked."""

    asked: list[tuple[str, str]]
    release: threading.Event

    def do_GET(self) -> None:
        self.asked.append((self.headers["host"], self.path))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("location", self.path.removeprefix("/to/"))
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/absent" else 200)
        self.end_headers()
        self.wfile.write(b"a picture" if self.path != "/large" else b"x" * 101)
        if self.path == "/slow":
            self.wfile.flush()
            self.release.wait(600)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[ThreadingHTTPServer]:
    Site.asked, Site.release = [], threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    Site.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Stream(httpcore.AsyncNetworkStream):
    """A connection whose TLS is a note of the name that would be checked."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, names: list[str | None]) -> None:
        self._inner, self._names = inner, names
        self.read, self.write, self.aclose = inner.read, inner.write, inner.aclose
        self.get_extra_info = lambda _: None

    async def start_tls(self, ssl_context: Any, server_hostname: str | None = None, **_: Any) -> Any:
        self._names.append(server_hostname)
        return self


class Network(httpcore.AsyncNetworkBackend):
    """Leads one public address to the site; nothing else can be reached."""

    def __init__(self, port: int) -> None:
        self._port, self._real = port, httpcore.AnyIOBackend()
        self.connected: list[tuple[str, int]] = []
        self.tls_names: list[str | None] = []

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        self.connected.append((host, port))
        if host != PUBLIC:
            raise httpcore.ConnectError
        return Stream(await self._real.connect_tcp("127.0.0.1", self._port), self.tls_names)


class World:
    """A fetcher and what it did."""

    def __init__(self, port: int) -> None:
        self.network = Network(port)
        self.looked_up: list[str] = []

    async def _resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        try:
            return HOSTS[host]
        except KeyError:
            return list(await resolve(host, port))  # an address; names are not in these tests

    def fetch(self, url: str, *, timeout_s: float = 600, **policy: Any) -> bytes:
        allowed = Policy(**{"remote": True, "max_bytes": 100, **policy})
        fetcher = Fetcher(allowed, resolver=self._resolve, network=self.network, timeout_s=timeout_s)
        return asyncio.run(fetcher.fetch(url))


@pytest.fixture
def world(site: ThreadingHTTPServer) -> World:
    return World(site.server_port)


def test_a_public_picture_is_fetched_from_the_address_that_was_checked(world):
    assert world.fetch("http://pictures.example/a.png?b=c") == b"a picture"
    assert Site.asked == [("pictures.example", "/a.png?b=c")]
    assert world.looked_up == ["pictures.example"]
    assert world.network.connected == [(PUBLIC, 80)]


def test_tls_is_for_the_name_although_the_connection_goes_to_the_address(world):
    assert world.fetch("https://pictures.example:8443/a.png") == b"a picture"
    assert (world.network.connected, world.network.tls_names) == ([(PUBLIC, 8443)], ["pictures.example"])
    assert Site.asked == [("pictures.example:8443", "/a.png")]


def test_the_next_address_is_tried_when_one_does_not_answer(world):
    assert world.fetch("http://two.example/") == b"a picture"
    assert [host for host, _ in world.network.connected] == HOSTS["two.example"]


def test_nothing_is_fetched_unless_the_operator_allows(world):
    with pytest.raises(InvalidMedia, match="fetches no remote media"):
        world.fetch("http://pictures.example/", remote=False)
    assert world.looked_up == []


@pytest.mark.parametrize(
    "host",
    [
        "inside.example", "mixed.example", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0.0.0.0",
        "169.254.169.254", "168.63.129.16", "192.168.1.1", "100.64.0.1", "[::1]", "[::]", "[fe80::1]",
        "[fd00::1]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
        "224.0.0.1", "255.255.255.255", "[ff02::1]",
    ],
)  # fmt: skip
def test_a_host_that_is_not_public_is_never_connected_to(world, host):
    with pytest.raises(InvalidMedia, match="not one on the public internet"):
        world.fetch(f"http://{host}/")
    assert world.network.connected == []


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_public(address):
    assert are_public([address])


def test_a_redirect_is_checked_like_the_first_url(world):
    assert world.fetch("http://pictures.example/to//a.png") == b"a picture"
    assert world.fetch("http://pictures.example/to/http://cdn.pictures.example/b") == b"a picture"
    for inside in ("http://127.0.0.1/", "http://inside.example/", "//169.254.169.254/latest"):
        with pytest.raises(InvalidMedia, match="public internet"):
            world.fetch(f"http://pictures.example/to/{inside}")
    assert {host for host, _ in world.network.connected} == {PUBLIC}
    with pytest.raises(InvalidMedia, match="malformed"):
        world.fetch("http://pictures.example/to/file:///etc/passwd")


def test_redirects_are_bounded(world):
    assert world.fetch("http://pictures.example" + "/to/" * MAX_REDIRECTS + "/a") == b"a picture"
    with pytest.raises(InvalidMedia, match="redirects more than"):
        world.fetch("http://pictures.example" + "/to/" * (MAX_REDIRECTS + 1) + "/a")


def test_only_listed_domains_and_their_subdomains_are_asked(world):
    listed = {"domains": ("pictures.example",)}
    assert world.fetch("http://pictures.example/", **listed) == b"a picture"
    assert world.fetch("http://cdn.pictures.example/", **listed) == b"a picture"
    for other in ("notpictures.example", "two.example", "pictures.example.evil.example"):
        with pytest.raises(InvalidMedia, match=r"these domains only: pictures\.example\."):
            world.fetch(f"http://{other}/", **listed)
    with pytest.raises(InvalidMedia, match="these domains only"):
        world.fetch("http://pictures.example/to/http://two.example/", **listed)
    assert "two.example" not in world.looked_up


@pytest.mark.parametrize(
    "url",
    [
        "http://", "http:///a", "http://pictures.example:0/", "http://pictures.example:99999/",
        "http://pictures.example:x/", "http://pictures.example\\@127.0.0.1/", "http://a b/", "http://\u24d4.example/",
        "http://pictures.example/\n", "http://pic%74ures.example/", "http://[::1", "http://[fe80::1%25eth0]/",
        "http://pictures.example/" + "a" * 3000, "ftp://pictures.example/",
    ],
)  # fmt: skip
def test_a_url_on_which_parsers_could_disagree_is_refused(world, url):
    with pytest.raises(InvalidMedia, match="malformed"):
        world.fetch(url)
    assert (world.looked_up, world.network.connected) == ([], [])


@pytest.mark.parametrize("user", ["me@", "me:secret@", "@", "pictures.example:80@"])
def test_a_url_with_a_user_is_refused_and_not_repeated(world, user):
    with pytest.raises(InvalidMedia, match="user name or a password") as refusal:
        world.fetch(f"http://{user}pictures.example/")
    assert "secret" not in refusal.value.message


def test_bytes_time_and_status_are_bounded(world):
    with pytest.raises(InvalidMedia, match="more than 100 bytes"):
        world.fetch("http://pictures.example/large")
    with pytest.raises(InvalidMedia, match=r"in full in 0\.2 s"):
        world.fetch("http://pictures.example/slow", timeout_s=0.2)
    with pytest.raises(InvalidMedia, match="status 404"):
        world.fetch("http://pictures.example/absent")


def test_a_host_that_does_not_answer_is_an_error_in_our_words(world):
    with pytest.raises(InvalidMedia, match="could not be fetched"):
        world.fetch("http://8.8.8.8/")


def test_a_file_is_read_below_the_allowed_folder_only(world, tmp_path):
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "a b.png").write_bytes(b"here")
    (folder / "large").write_bytes(b"x" * 101)
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    allowed = {"folder": folder}
    assert world.fetch(f"file://{folder}/a%20b.png", **allowed) == b"here"
    outside = [
        f"{folder}/link",
        f"{folder}/../secret",
        f"{folder}/%2e%2e/secret",
        f"{tmp_path}/secret",
        "/dev/zero",
    ]
    for path in (*outside, folder, f"{folder}/absent", f"{folder}/a%00b", f"elsewhere{folder}/a%20b.png"):
        with pytest.raises(InvalidMedia, match="no such file below"):
            world.fetch(f"file://{path}", **allowed)
    with pytest.raises(InvalidMedia, match="more than 100 bytes"):
        world.fetch(f"file://{folder}/large", **allowed)
    with pytest.raises(InvalidMedia, match="reads no local files"):
        world.fetch(f"file://{folder}/a%20b.png")
