"""Errors as clients see them: every answer that is no success is one OpenAI envelope, whoever refused.

Holds the api's one broad `except`: what nobody foresaw is logged whole and shown as one sentence.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitascope.errors import VitascopeError

log = logging.getLogger("vitascope.api")

# Where clients read a refusal's sentence as `detail`: alone, or beside the envelope where two dialects meet.
DETAIL_ALONE = (
    "/v1/video/",
    "/v1/requests/",
    "/v1/cluster/",
    "/v1/clusters",
    "/v1/model_registrations/",
    "/v1/engines/",
    "/v1/workers",
    "/v1/supervisor",
    "/v1/address",
    "/token",
    "/video/",
    "/videos/",
)
DETAIL_BESIDE = ("/v1/models",)
UNFORESEEN = "The server had an error processing your request."
POLICY_VIOLATION = 1008  # the WebSocket close code of a refusal


class ErrorDetail(BaseModel):
    """What went wrong, which field it is about and a stable code."""

    message: str
    type: str
    param: str | None
    code: str | None


_SENTENCE = "num_frames is 6; it must be 4*k+1 and at most 33: use 5 or 9."
_ERROR: JsonDict = {
    "message": _SENTENCE, "type": "invalid_request_error", "param": "num_frames", "code": "invalid_value"
}  # fmt: skip


class ErrorEnvelope(BaseModel):
    """Every answer that is no success."""

    model_config = ConfigDict(json_schema_extra={"example": {"error": _ERROR}})

    error: ErrorDetail


class Detail(BaseModel):
    """The same, where clients read only a sentence."""

    model_config = ConfigDict(json_schema_extra={"example": {"detail": _SENTENCE}})

    detail: str


class ErrorWithDetail(BaseModel):
    """The same, where clients of both kinds read."""

    model_config = ConfigDict(json_schema_extra={"example": {"error": _ERROR, "detail": _SENTENCE}})

    error: ErrorDetail
    detail: str


ERROR_MODELS: tuple[type[BaseModel], ...] = (ErrorEnvelope, Detail, ErrorWithDetail)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the refusals of a route's own; `description.py` adds their form and what the guards refuse."""
    return {s: {"description": HTTPStatus(s).phrase} for s in statuses}


def error_model(path: str) -> type[BaseModel]:
    """Return the form that refusals have on a path: `in_words_of`, as a type."""
    if path.startswith(DETAIL_ALONE):
        return Detail
    return ErrorWithDetail if path.startswith(DETAIL_BESIDE) else ErrorEnvelope


def body(message: str, *, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Make the envelope's content."""
    kind = "invalid_request_error"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    param = None if param is None else _well_formed(param)
    return {"error": {"message": _well_formed(message), "type": kind, "param": param, "code": code}}


def _well_formed(text: str) -> str:
    """Replace halves of surrogate pairs: a client's own words, quoted, may hold them, and UTF-8 does not."""
    return text.encode(errors="replace").decode()


def in_words_of(path: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return the envelope's content as the clients of that path read it."""
    detail = {"detail": content["error"]["message"]}
    if path.startswith(DETAIL_ALONE):
        return detail
    return {**content, **detail} if path.startswith(DETAIL_BESIDE) else content


def envelope(error: VitascopeError, path: str = "") -> Response:
    """Answer an error of the tree, with the headers that tell a client whether to try again."""
    content = body(error.message, status=error.status, param=error.param, code=error.code)
    return JSONResponse(in_words_of(path, content), error.status, _advice(error))


def _advice(error: VitascopeError) -> dict[str, str]:
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not error.retryable:
        headers["x-should-retry"] = "false"
    return headers


def install(app: FastAPI, routes: Sequence[APIRoute]) -> None:
    """Have the framework's own refusals (unknown URL, wrong method) answered in the envelope."""

    async def http_error(request: Request, error: HTTPException) -> Response:
        headers = error.headers
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # the framework names those of one route only
            headers = {"allow": ", ".join(_methods(request.url.path, routes))}
        return _http_error(request, error, headers)

    app.exception_handler(HTTPException)(http_error)
    app.exception_handler(RequestValidationError)(_validation_error)


def _methods(path: str, routes: Sequence[APIRoute]) -> list[str]:
    return sorted(
        {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}
    )


def _http_error(request: Request, error: HTTPException, headers: Mapping[str, str] | None) -> Response:
    message, code = str(error.detail), None
    if error.status_code == HTTPStatus.NOT_FOUND:
        message, code = f"Unknown request URL: {request.method} {request.url.path}.", "unknown_url"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message, code = f"Not allowed to {request.method} on {request.url.path}.", "method_not_allowed"
    content = body(message, status=error.status_code, code=code)
    return JSONResponse(in_words_of(request.url.path, content), error.status_code, headers)


async def _validation_error(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    param = str(first["loc"][-1])
    content = body(f"Invalid {param}: {first['msg']}.", status=400, param=param, code="invalid_value")
    return JSONResponse(in_words_of(request.url.path, content), HTTPStatus.BAD_REQUEST)


class LastResort:
    """Turn whatever the inner layers raise into an envelope."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] in {"http.response.start", "websocket.accept"}
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            log.debug("the client left before its request was read")
        except VitascopeError as error:
            if started:
                raise
            await _refuse(error, scope, receive, send)
        except Exception:
            log.exception("unforeseen error", extra={"request_id": scope.get("state", {}).get("request_id")})
            if started:
                raise
            await _refuse(VitascopeError(UNFORESEEN), scope, receive, send)


async def _refuse(error: VitascopeError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": error.message})
    else:
        await envelope(error, scope["path"])(scope, receive, send)
