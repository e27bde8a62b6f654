"""The headers that every answer carries, and its line in the log; the request id ties the two together."""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("vitascope.api")

PROBES = frozenset({"/live", "/health"})
POLLED_BY_POST = frozenset({"/video/status"})
REQUEST_ID = ContextVar("REQUEST_ID", default="")  # of the request that is being answered
CLIENT_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)


class StandardHeaders:
    """Add request id, processing time and `nosniff` to every answer, and log it.

    A client's own `X-Request-Id` is never taken over; a well-formed one comes back as `X-Client-Request-Id`.
    Reads that succeed are logged at level debug, because clients poll; probes always.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        request_id = f"req_{secrets.token_hex(16)}"
        scope.setdefault("state", {})["request_id"] = request_id
        REQUEST_ID.set(request_id)
        client_id = Headers(scope=scope).get("x-request-id", "")

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                elapsed_ms = round((time.perf_counter() - begun) * 1000)
                _log(scope, message["status"], elapsed_ms, request_id)
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(elapsed_ms)
                headers["x-content-type-options"] = "nosniff"
                if CLIENT_REQUEST_ID.fullmatch(client_id):
                    headers["x-client-request-id"] = client_id
            await send(message)

        await self.app(scope, receive, with_headers)


def _log(scope: Scope, status: int, elapsed_ms: int, request_id: str) -> None:
    polls = scope["method"] in {"GET", "HEAD"} or scope["path"] in POLLED_BY_POST
    quiet = polls and (status < 400 or scope["path"] in PROBES)
    log.log(
        logging.DEBUG if quiet else logging.INFO,
        "%s %s: %d in %d ms",
        scope["method"],
        scope["path"],
        status,
        elapsed_ms,
        extra={"request_id": request_id},
    )
