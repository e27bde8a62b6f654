"""The headers that every answer carries, and the request id that ties it to the log."""

from __future__ import annotations

import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLIENT_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)


class StandardHeaders:
    """Add request id, processing time and `nosniff` to every answer.

    A client's own `X-Request-Id` is never taken over; a well-formed one comes back as `X-Client-Request-Id`.
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
        client_id = Headers(scope=scope).get("x-request-id", "")

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.perf_counter() - begun) * 1000))
                headers["x-content-type-options"] = "nosniff"
                if CLIENT_REQUEST_ID.fullmatch(client_id):
                    headers["x-client-request-id"] = client_id
            await send(message)

        await self.app(scope, receive, with_headers)
