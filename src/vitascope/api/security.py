"""Who may come in, and with how much: host, origin, key and body size, decided before any route is chosen.

Everything is closed unless `OPEN_PATHS` names it; the path judged is the one that is routed
(`scope["path"]`), never one rebuilt from headers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitascope.errors import Forbidden, RequestTooLarge, Unauthorized

# Probes hold no key, and Xinference's client asks whether it needs one; none says anything worth a key.
OPEN_PATHS = frozenset({"/live", "/health", "/v1/cluster/auth"})
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
REQUESTS = frozenset({"http", "websocket"})
MAX_LENGTH_DIGITS = 18


class HostGuard:
    """Refuse foreign `Host` names on a loopback bind, and other sites' pages that make the browser write.

    A page that had its own name resolved to this machine (DNS rebinding) still sends its own name; a page
    that posts a form here sends its own `Origin`. `origins` are the pages the operator allows.
    """

    def __init__(self, app: ASGIApp, *, loopback: bool, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self.app = app
        self._loopback = loopback
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] in REQUESTS:
            headers = Headers(scope=scope)
            host = headers.get("host", "")
            if self._loopback and not self._known(_host_name(host)):
                raise Forbidden(
                    "This Host is not served here; use localhost, or have it listed in allowed_hosts."
                )
            if scope.get("method") not in READING_METHODS:
                self._check_origin(headers.get("origin"), host)
        await self.app(scope, receive, send)

    def _known(self, name: str) -> bool:
        if name == "localhost" or name in self._hosts:
            return True
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return False

    def _check_origin(self, origin: str | None, host: str) -> None:
        if origin is None or origin in self._origins:
            return
        if urlsplit(origin).netloc.lower() != host.lower():
            raise Forbidden(
                "Pages of another origin may not send this; the operator lists them in cors_origins."
            )


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


class BearerAuth:
    """Ask for one of the operator's keys on every path that is not open."""

    def __init__(self, app: ASGIApp, *, keys: Iterable[str]) -> None:
        self.app = app
        self._digests = tuple(_digest(key.encode()) for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] in REQUESTS and self._digests and scope["path"] not in OPEN_PATHS:
            self._check(Headers(scope=scope).get("authorization", ""))
        await self.app(scope, receive, send)

    def _check(self, header: str) -> None:
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthorized("You didn't provide an API key; send it as 'Authorization: Bearer KEY'.")
        given = _digest(key.strip().encode("latin-1"))  # a header's bytes as they came
        # every digest is compared, so that the time taken says nothing about which one was near
        if not sum(hmac.compare_digest(given, digest) for digest in self._digests):
            raise Unauthorized("Incorrect API key provided.")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class BodyLimit:
    """Refuse bodies over the limit: by their announced length at once, else by counting what comes."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")[:MAX_LENGTH_DIGITS]
        if announced.isascii() and announced.isdigit() and int(announced) > self._max_bytes:
            raise self._too_large()
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._too_large()
            return message

        await self.app(scope, counted, send)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The request body is larger than {self._max_bytes / 2**20:g} MiB.")
