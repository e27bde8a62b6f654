"""The OpenAPI document: what FastAPI makes of the routes, completed with what all of them share.

The guards' refusals, the headers of every answer and the form that a refusal has on a path are added here,
from the code that makes them; so a route says only what is its own. `tests/api/test_description.py` says what
a route must say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from vitascope.api.errors import ERROR_MODELS, UNFORESEEN, body, error_model, in_words_of
from vitascope.api.security import OPEN_PATHS, READING_METHODS
from vitascope.errors import (
    Forbidden,
    QueueFull,
    RequestTooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    VitascopeError,
)

TAGS = {
    "OpenAI Videos": "As OpenAI's SDKs speak it; cancel and events are our own.",
    "vLLM-Omni": "The same routes with vLLM-Omni's fields, and its call that waits.",
    "SGLang": "The same routes with the fields of SGLang diffusion.",
    "Xinference": "As the client of Xinference speaks it: calls wait for their clips.",
    "Multi-GPU FastAPI": 'Submit, ask, download. Refusals are `{"detail": ...}`.',
    "Models": "What is served, with each model's native values and rules.",
    "Probes": "For those who watch the server; they need no key.",
}
PARAMETERS = {
    "video_id": "The id that a create gave.",
    "model": "The name of a served model, or an alias.",
    "model_uid": "The name of a served model, or an alias.",
    "request_id": "The `request_id` that the caller gave in `kwargs`.",
}
HEADERS = {
    "x-request-id": "Names the request in the server's log.",
    "openai-processing-ms": "Milliseconds until the answer began.",
    "x-client-request-id": "The request's own `X-Request-Id`, where it is well-formed.",
    "openai-poll-after-ms": "Milliseconds after which to ask again; absent once the job has ended.",
    "retry-after": "Seconds after which to try again.",
    "x-should-retry": "`false`: trying again does not help.",
    "www-authenticate": "`Bearer`",
}
EVERY_ANSWER = ("x-request-id", "openai-processing-ms", "x-client-request-id")
ADVICE = {"401": "www-authenticate", "429": "retry-after", "500": "x-should-retry", "503": "retry-after"}
# What is said with these statuses, whichever the route.
SAID: dict[str, VitascopeError] = {
    str(error.status): error
    for error in (
        Unauthorized("Incorrect API key provided."),
        Forbidden("This Host is not served here; use localhost, or have it listed in allowed_hosts."),
        RequestTooLarge("The request body is larger than 64 MiB."),
        UnsupportedMediaType(
            "Cannot read a body of type 'text/plain'; send multipart/form-data, "
            "application/x-www-form-urlencoded or application/json."
        ),
        QueueFull("The queue is full (limit 256); try again later."),
        VitascopeError(UNFORESEEN),
        Unavailable("No model is served now; launch one first."),
    )
}
_VIDEO = "#/components/schemas/Video"
_FASTAPI_ONLY = ("HTTPValidationError", "ValidationError")  # it announces a 422 that is never answered


def install(app: FastAPI, routes: Sequence[APIRoute], *, keyed: bool) -> None:
    """Have the document of an application made of `routes` completed; `keyed`: clients need a key."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(generate(), routes, keyed=keyed)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any], routes: Sequence[APIRoute], *, keyed: bool) -> dict[str, Any]:
    document["tags"] = [{"name": name, "description": about} for name, about in TAGS.items()]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _describe(operation, path, method, keyed=keyed)
    for path, operation in _heads(document, routes):
        document["paths"][path]["head"] = operation
    _fill_components(document["components"], routes)
    if keyed:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _describe(operation: dict[str, Any], path: str, method: str, *, keyed: bool) -> None:
    operation["summary"] = re.split(r"[.:;]\s", operation.get("description", "").strip())[0].rstrip(".")
    for parameter in operation.get("parameters", ()):
        parameter.setdefault("description", PARAMETERS.get(parameter["name"], ""))
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):
        del answers["422"]
    for status in _of_guards(path, method, keyed=keyed):
        answers.setdefault(status, {"description": HTTPStatus(int(status)).phrase})
    for status, answer in answers.items():
        _describe_answer(answer, status, path)
    operation["responses"] = dict(sorted(answers.items()))
    if keyed and path in OPEN_PATHS:
        operation["security"] = []


def _of_guards(path: str, method: str, *, keyed: bool) -> Iterator[str]:
    """Name the statuses that are answered before a route is reached, or when it breaks."""
    if keyed and path not in OPEN_PATHS:
        yield "401"
    yield "403"
    if method.upper() not in READING_METHODS:
        yield "413"
    yield "500"
    yield "503"  # the store does not answer


def _describe_answer(answer: dict[str, Any], status: str, path: str) -> None:
    headers = [*EVERY_ANSWER, *([ADVICE[status]] if status in ADVICE else [])]
    content = answer.get("content", {})
    if content.get("application/json", {}).get("schema", {}).get("$ref") == _VIDEO:
        headers.append("openai-poll-after-ms")
    listed = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    answer["headers"] = listed | {name.lower(): about for name, about in answer.get("headers", {}).items()}
    if status >= "400" and not content:
        refusal: dict[str, Any] = {"schema": _reference(error_model(path).__name__)}
        if status in SAID:
            error = SAID[status]
            said = body(error.message, status=error.status, param=error.param, code=error.code)
            refusal["example"] = in_words_of(path, said)
        answer["content"] = {"application/json": refusal}


def _heads(document: dict[str, Any], routes: Sequence[APIRoute]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Describe each HEAD as its GET without the bodies."""
    for route in routes:
        if route.methods == {"HEAD"}:
            operation = document["paths"][route.path]["get"]
            answers = {
                status: {key: value for key, value in answer.items() if key != "content"}
                for status, answer in operation["responses"].items()
            }
            about = {"operationId": f"{operation['operationId']}_head", "responses": answers}
            yield route.path, {**operation, **about}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _fill_components(components: dict[str, Any], routes: Sequence[APIRoute]) -> None:
    components["headers"] = {
        name: {"description": about, "schema": {"type": "string"}} for name, about in HEADERS.items()
    }
    schemas = components["schemas"]
    for name in _FASTAPI_ONLY:
        schemas.pop(name, None)
    answered = [route.response_model for route in routes if route.response_model is not None]
    _, made = TypeAdapter.json_schemas(  # again: FastAPI drops the nulls of examples
        [(i, "serialization", TypeAdapter(kind)) for i, kind in enumerate((*ERROR_MODELS, *answered))],
        ref_template="#/components/schemas/{model}",
    )
    components["schemas"] = dict(sorted({**schemas, **made["$defs"]}.items()))
