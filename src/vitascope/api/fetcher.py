"""Media by URL: the one place from which the server reaches out for a client, as its operator allows.

A URL is split once, and what was checked is what is fetched: a host is resolved once, every address it has
must be a public one, and the connection goes to that very address under the host's own name. A redirect is a
new URL.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import httpcore

from vitascope.config import Settings
from vitascope.errors import InvalidMedia

MAX_REDIRECTS = 3
MAX_URL_CHARS = 2048
TIMEOUT_S = 20.0  # for everything, redirects included
PORTS = {"http": 80, "https": 443}
REDIRECTS = frozenset({301, 302, 303, 307, 308})
HEADERS = [(b"user-agent", b"vitascope"), (b"accept", b"image/*, video/*"), (b"accept-encoding", b"identity")]

_PLAIN = re.compile(r"[!-~]*", re.ASCII)  # neither blanks nor control characters, on which parsers disagree
_HOST = re.compile(r"[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\]", re.ASCII)
_NAT64 = ip_network("64:ff9b::/96")
_CLOUD = frozenset({ip_address("168.63.129.16")})  # a public address that is a cloud's own inside of it

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator allows. `domains`, if any, are the only ones; each stands for its subdomains too."""

    remote: bool = False
    domains: tuple[str, ...] = ()
    folder: Path | None = None
    max_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Read the settings."""
        return cls(
            remote=settings.allow_remote_media or bool(settings.allow_media_domain),
            domains=tuple(domain.lower().strip(".") for domain in settings.allow_media_domain),
            folder=settings.allowed_local_media_path,
            max_bytes=settings.max_body_bytes,
        )

    def allows(self, host: str) -> bool:
        """Whether a host may be asked, as far as its name goes."""
        name = host.rstrip(".")
        return not self.domains or any(name == d or name.endswith(f".{d}") for d in self.domains)


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Fetcher:
    """Fetches pictures and clips. `resolver` and `network` are how it looks hosts up and connects."""

    def __init__(
        self,
        policy: Policy,
        *,
        resolver: Resolve = resolve,
        network: httpcore.AsyncNetworkBackend | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._policy = policy
        self._network = _PublicOnly(resolver, network or httpcore.AnyIOBackend())
        self._timeout_s = timeout_s

    async def fetch(self, url: str) -> bytes:
        """Return what an http:, https: or file: URL leads to; no more than the policy allows.

        Raises:
            InvalidMedia: it is not allowed or cannot be had; the message says what would do.

        """
        if url[:5].lower() == "file:":
            return await asyncio.to_thread(self._read, url)
        if not self._policy.remote:
            raise InvalidMedia(
                "This server fetches no remote media; upload the file or send it as a data: URL."
            )
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(url)
        except (TimeoutError, httpcore.TimeoutException):
            raise InvalidMedia(f"The media URL did not answer in full in {self._timeout_s:g} s.") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
            raise _unfetchable() from None

    async def _follow(self, url: str) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._get(self._checked(url))
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise InvalidMedia(f"The media URL redirects more than {MAX_REDIRECTS} times.")

    def _checked(self, url: str) -> httpcore.URL:
        """Split a URL, once for all that is done with it."""
        parts = _split(url)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        if not self._policy.allows(host):
            allowed = ", ".join(self._policy.domains)
            raise InvalidMedia(f"Media are fetched from these domains only: {allowed}.")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return httpcore.URL(scheme=parts.scheme, host=host, port=port, target=target)

    async def _get(self, url: httpcore.URL) -> bytes | str:
        """Return a URL's content, or where it redirects to."""
        async with (
            httpcore.AsyncConnectionPool(network_backend=self._network) as pool,
            pool.stream("GET", url, headers=HEADERS) as response,
        ):
            headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
            if response.status in REDIRECTS and b"location" in headers:
                return headers[b"location"]
            if response.status != 200:
                raise InvalidMedia(f"The media URL answers with status {response.status}.")
            return await self._body(response)

    async def _body(self, response: httpcore.Response) -> bytes:
        data = bytearray()
        async for chunk in response.aiter_stream():
            data += chunk
            if len(data) > self._policy.max_bytes:
                raise self._too_large()
        return bytes(data)

    def _read(self, url: str) -> bytes:
        """Read a file below the operator's folder; links that lead out of it are not followed."""
        folder = self._policy.folder
        if folder is None:
            raise InvalidMedia("This server reads no local files; upload the file or send a data: URL.")
        absent = InvalidMedia("There is no such file below the folder whose media may be read.")
        try:
            path = Path(_local_path(url)).resolve(strict=True)
            if not path.is_relative_to(folder.resolve()) or not path.is_file():
                raise absent
            # Opened without waiting: what is a file now may be a pipe in a moment.
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (OSError, RuntimeError, ValueError):
            raise absent from None
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise absent
            data = file.read(self._policy.max_bytes + 1)
        if len(data) > self._policy.max_bytes:
            raise self._too_large()
        return data

    def _too_large(self) -> InvalidMedia:
        return InvalidMedia(f"The file has more than {self._policy.max_bytes} bytes.")


class _PublicOnly(httpcore.AsyncNetworkBackend):
    """Connects to hosts all of whose addresses are public."""

    def __init__(self, resolver: Resolve, network: httpcore.AsyncNetworkBackend) -> None:
        self._resolver = resolver
        self._network = network

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **kwargs: Any
    ) -> httpcore.AsyncNetworkStream:
        """Look the host up, once, and connect to what was found."""
        last: Exception = httpcore.ConnectError()
        for address in await self._addresses(host, port):
            try:
                return await self._network.connect_tcp(address, port, *args, **kwargs)
            except (httpcore.ConnectError, OSError) as error:
                last = error
        raise last

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        # One answer for both: whether a private name exists is nobody's business.
        refused = InvalidMedia("The media URL's host is not one on the public internet.")
        try:
            addresses = await self._resolver(host, port)
        except (OSError, UnicodeError):
            raise refused from None
        if not addresses or not are_public(addresses):
            raise refused
        return addresses


def are_public(addresses: Iterable[str]) -> bool:
    """Whether all of these are addresses of the public internet, also those that wrap another one."""
    return all(_is_public(ip_address(address)) for address in addresses)


def _is_public(address: Any) -> bool:
    if isinstance(address, IPv6Address):
        teredo = address.teredo or ()
        inner = [address.ipv4_mapped, address.sixtofour, *teredo]
        if address in _NAT64:
            inner.append(ip_address(int(address) & 0xFFFFFFFF))
        if not all(_is_public(each) for each in inner if each is not None):
            return False
        if address.ipv4_mapped is not None:
            return True
    special = address.is_multicast or address.is_reserved or address.is_unspecified or address in _CLOUD
    return bool(address.is_global and not special)


def _split(url: str) -> SplitResult:
    malformed = InvalidMedia("The media URL is malformed; it must be http(s)://HOST/PATH in plain ASCII.")
    if len(url) > MAX_URL_CHARS or not _PLAIN.fullmatch(url) or "\\" in url:
        raise malformed
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise malformed from None
    if parts.scheme not in PORTS or port == 0:
        raise malformed
    if "@" in parts.netloc:
        raise InvalidMedia("The media URL holds a user name or a password; send it without.")
    if not _HOST.fullmatch(parts.netloc.lower().removesuffix(f":{port}" if port else ":")):
        raise malformed
    return parts


def _local_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment:
        raise ValueError("a file of another machine")
    return unquote(parts.path, errors="strict")


def _unfetchable() -> InvalidMedia:
    return InvalidMedia("The media URL could not be fetched.")
