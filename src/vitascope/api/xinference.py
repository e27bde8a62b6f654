"""The Xinference dialect: `/v1/video/generations` as its client speaks it, with progress and abort.

Its calls wait for their clips. `/v1/models` is in `models.py`, in both dialects' words at once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from vitascope.api.base64_json import base64_json
from vitascope.api.calls import Call, Calls
from vitascope.api.cancelling import cancel_job
from vitascope.api.errors import refusals
from vitascope.api.intake import read_body
from vitascope.api.request_schema import PROMPT, SOURCES, create_properties, request_body
from vitascope.api.services import Services
from vitascope.api.submission import submit_waited_for
from vitascope.api.values import INTEGER, OBJECT
from vitascope.api.views import find
from vitascope.api.waiting import Waiting
from vitascope.api.xinference_body import BAG, named_card, read_order
from vitascope.errors import Aborted, ModelNotFound, NotFound, UnknownField
from vitascope.jobs.job import Job
from vitascope.wire import StoredFile

NO_PICTURE: dict[str, str] = {}
ONE_PICTURE = {"image": "input_reference"}
TWO_PICTURES = {"first_frame": "input_reference", "last_frame": "last_frame_reference"}
WAITED = refusals(400, 404, 409, 415, 429, 503)
EXAMPLE = {
    "model": "vitascope-tiny",
    "prompt": PROMPT,
    "n": 1,
    "kwargs": '{"num_inference_steps": 10, "seed": 1}',
}


class Clip(BaseModel):
    """One clip, as an MP4 in base64 or as a URL on this server."""

    url: str | None
    b64_json: str | None


class Clips(BaseModel):
    """What a call answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"created": 1758941485, "data": [{"url": None, "b64_json": "AAAAIGZ0eXBpc29t"}]}
        }
    )

    created: int
    data: list[Clip]
    warnings: list[str] | None = Field(None, description="What had no effect; absent if there is nothing.")


class CallProgress(BaseModel):
    """How far a call is, over all of its clips."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"progress": 0.4, "elapsed_seconds": 1.5, "eta_seconds": 2.25}}
    )

    progress: float = Field(ge=0, le=1)
    elapsed_seconds: float
    eta_seconds: float | None


class AbortAnswer(BaseModel):
    """DONE: its clips are being stopped. NO_OP: it had ended. NOT_FOUND: nobody knows it."""

    model_config = ConfigDict(json_schema_extra={"example": {"msg": "DONE"}})

    msg: Literal["DONE", "NOT_FOUND", "NO_OP"]


class AuthAnswer(BaseModel):
    """Whether a key is needed."""

    model_config = ConfigDict(json_schema_extra={"example": {"auth": False}})

    auth: bool


class Xinference:
    """The dialect's routes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._calls = Calls()

    def router(self) -> APIRouter:
        """Make the routes, documented."""
        routes = APIRouter(tags=["Xinference"])
        generations = "/v1/video/generations"
        for path, call, pictures in (
            (generations, self.text_to_video, NO_PICTURE),
            (f"{generations}/image", self.image_to_video, ONE_PICTURE),
            (f"{generations}/flf", self.flf_to_video, TWO_PICTURES),
        ):
            extra = {"requestBody": _body_of(pictures)}
            routes.add_api_route(
                path, call, methods=["POST"], response_model=Clips, responses=WAITED, openapi_extra=extra
            )
        routes.add_api_route(
            "/v1/requests/{request_id}/progress",
            self.progress,
            methods=["GET"],
            response_model=CallProgress,
            responses=refusals(404),
        )
        routes.add_api_route(
            "/v1/models/{model_uid}/requests/{request_id}/abort",
            self.abort,
            methods=["POST"],
            response_model=AbortAnswer,
            responses=refusals(400, 415, 503),
            openapi_extra={"requestBody": _ABORT_BODY},
        )
        routes.add_api_route("/v1/cluster/auth", self.auth, methods=["GET"], response_model=AuthAnswer)
        return routes

    async def text_to_video(self, request: Request) -> Response:
        """Make clips from a prompt and wait for them; leaving cancels them."""
        return await self._generate(request, NO_PICTURE)

    async def image_to_video(self, request: Request) -> Response:
        """Make clips that begin with a picture and wait for them; leaving cancels them."""
        return await self._generate(request, ONE_PICTURE)

    async def flf_to_video(self, request: Request) -> Response:
        """Make clips between two pictures and wait for them; leaving cancels them."""
        return await self._generate(request, TWO_PICTURES)

    async def progress(self, request_id: str) -> CallProgress:
        """Tell how far a call is, by the `request_id` in its `kwargs`."""
        call = self._calls.find(request_id)
        if call is None:
            raise NotFound(f"There is no request {request_id[:80]!r}.")
        eta_s = None
        if call.took_s is None:
            eta_s = await self._services.off_loop(_look, self._services, call)
        elapsed_s = self._calls.elapsed_s(call)
        return CallProgress(progress=call.progress, elapsed_seconds=elapsed_s, eta_seconds=eta_s)

    async def abort(self, request: Request, model_uid: str, request_id: str) -> AbortAnswer:
        """Stop a call by the `request_id` in its `kwargs`: its clips are cancelled at their next step."""
        await self._check_abort(request)
        call = self._calls.find(request_id)
        if call is None or not self._is(call, model_uid):
            return AbortAnswer(msg="NOT_FOUND")
        if call.took_s is not None or call.progress == 1:
            return AbortAnswer(msg="NO_OP")
        await self._stop(call)
        return AbortAnswer(msg="DONE")

    async def auth(self) -> AuthAnswer:
        """Tell whether a key is needed; needs none itself."""
        return AuthAnswer(auth=self._services.settings.api_key is not None)

    async def _generate(self, request: Request, pictures: Mapping[str, str]) -> Response:
        services = self._services
        body = await read_body(request, max_bytes=services.settings.max_body_bytes)
        order = await asyncio.to_thread(read_order, services, body, pictures)
        base = str(request.base_url) if order.by_url else None
        with ExitStack() as until_answered:
            call = until_answered.enter_context(self._calls.running(order.request_id, order.card.name))
            job = await submit_waited_for(services, order.reading, order.card)
            call.job_id = job.id
            if call.aborted:  # while its pictures were kept
                await self._stop(call)

            async def answer(done: Job) -> Response:
                call.progress = 1.0
                return await (self._urls(done, base) if base else self._base64(done))

            on_end = until_answered.pop_all().close
            return Waiting(services, job, answer, cancelled=Aborted, on_end=on_end)

    async def _stop(self, call: Call) -> None:
        call.aborted = True
        if call.job_id is not None:
            with suppress(NotFound):
                await self._services.off_loop(cancel_job, self._services, call.job_id)
        self._services.scheduling.wake()

    async def _check_abort(self, request: Request) -> None:
        body = await read_body(request, max_bytes=self._services.settings.max_body_bytes)
        for name, value in body.fields.items():
            if name != "block_duration":
                raise UnknownField(f"Unknown parameter: '{name[:80]}'; did you mean 'block_duration'?")
            INTEGER.read(name, value)

    def _is(self, call: Call, model_uid: str) -> bool:
        try:
            return named_card(self._services, model_uid).name == call.model
        except ModelNotFound:
            return False

    async def _urls(self, job: Job, base: str) -> Response:
        await self._services.off_loop(self._services.store.keep, job.id, time.time())
        content = f"{base}v1/videos/{job.id}/content"
        urls = [
            f"{content}?index={output}" if output else content for output in range(job.request.num_outputs)
        ]
        clips = [{"url": url, "b64_json": None} for url in urls]
        return JSONResponse({"created": int(time.time()), "data": clips, **_warnings(job)})

    async def _base64(self, job: Job) -> Response:
        return await base64_json(self._services.artifacts, list(_parts(job)))


def _parts(job: Job) -> Iterator[bytes | StoredFile]:
    """Write the answer with each file where its base64 goes."""
    yield b'{"created":%d,"data":[' % int(time.time())
    for output in range(job.request.num_outputs):
        file = job.file("video", output)
        assert file is not None, "a job succeeds with all of its videos"
        yield b'%s{"url":null,"b64_json":"' % (b"," if output else b"")
        yield file
        yield b'"}'
    rest = "".join(f",{json.dumps(key)}:{json.dumps(value)}" for key, value in _warnings(job).items())
    yield b"]" + rest.encode() + b"}"


def _warnings(job: Job) -> dict[str, list[str]]:
    return {"warnings": list(job.warnings)} if job.warnings else {}


def _look(services: Services, call: Call) -> float | None:
    """Note how far a call is; return the seconds until its last clip is done, or None. Blocking."""
    if call.job_id is None:
        return None
    try:
        view = find(services, call.job_id)
    except NotFound:  # it ended just now, or somebody deletes it
        return None
    call.progress = max(call.progress, view.job.tally.percent / 100)
    return 0.0 if view.job.finished_at is not None else view.eta_s


_ABORT_BODY = request_body(
    {
        "block_duration": {
            **INTEGER.schema,
            "description": "No effect here: an abort acts at once and blocks no later call.",
        }
    },
    examples={"As the client sends it": {"block_duration": 30}},
)


def _body_of(pictures: Mapping[str, str]) -> dict[str, Any]:
    """Describe a call: `kwargs` and the count beside the fields of a create, and the files that it needs."""
    properties = create_properties()
    for ours in (BAG, *(SOURCES if pictures else ())):
        del properties[ours]
    properties["prompt"] = {
        "anyOf": [properties["prompt"], {"type": "array", "items": {"type": "string"}, "maxItems": 1}],
        "description": properties["prompt"]["description"],
    }
    properties["kwargs"] = {
        **OBJECT.schema,
        "description": "JSON: `request_id`, `response_format` (b64_json or url), `seed` (-1: random), "
        "`max_area` (with pictures), and every field that may stand beside it.",
    }
    properties |= {name: {"description": "A picture; any name and type."} for name in pictures}
    examples = {"As the client sends it": EXAMPLE}
    return request_body(properties, required=["prompt", *pictures], uploads=pictures, examples=examples)
