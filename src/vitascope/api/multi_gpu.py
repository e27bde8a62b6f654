"""The Multi-GPU FastAPI dialect: `/video/submit`, `/video/status`, `/video/cancel` and `/videos/<id>.mp4`.

Its requestId is our job id without the prefix. Its refusals are `{"detail": "..."}`, 422 for a body that
breaks the dialect's own rules and 400 for one that the served model cannot do.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from vitascope.api.cancelling import cancel_job
from vitascope.api.choosing import chosen_card
from vitascope.api.content import FILE_PARAMETERS, file_answers, file_response
from vitascope.api.errors import refusals
from vitascope.api.intake import read_body
from vitascope.api.multi_gpu_fields import EXAMPLES, Submit, TaskId, read_fields, read_submit
from vitascope.api.request_schema import request_body
from vitascope.api.services import Services
from vitascope.api.submission import submit
from vitascope.api.views import View, find
from vitascope.errors import InvalidRequest, NotReady, VideoNotFound
from vitascope.jobs.job import TERMINAL, Job, State

Status = Literal["InQueue", "InProgress", "Succeed", "Failed", "Cancelled"]

CANCEL_WAIT_S = 5.0  # a running task stops at its next step; most do within this
STATUSES: dict[State, Status] = {
    State.QUEUED: "InQueue",
    State.RUNNING: "InProgress",
    State.SUCCEEDED: "Succeed",
    State.FAILED: "Failed",
    State.CANCELLED: "Cancelled",
}
# The dialect's names of what a model's rules are about.
OUR_NAMES = {
    "num_inference_steps": "infer_steps",
    "flow_shift": "sample_shift",
    "input_reference": "image_url",
    "size": "image_size",
    "width": "image_size",
    "height": "image_size",
}
_HEX = re.compile(r"[0-9a-f]{32}")


class Submitted(BaseModel):
    """The answer to a submit."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"requestId": "0123456789abcdef0123456789abcdef"}}
    )

    requestId: str  # noqa: N815  # the dialect's spelling


class Cancelled(BaseModel):
    """The answer to a cancel."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "Cancelled"}})

    status: Literal["Cancelled", "Already finished"]


class Results(BaseModel):
    """A finished clip: where it is, its bytes and its seconds. `video_path` never names a server's path."""

    video_url: str
    video_path: None = None
    file_size: int
    duration: float


class TaskStatus(BaseModel):
    """How a task stands. `queue_position` counts from 1, 0 is outside the queue; times are unix seconds."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "InProgress",
                "reason": None,
                "results": None,
                "queue_position": 0,
                "progress": 0.4,
                "created_at": 1758941485.25,
                "updated_at": 1758941486.5,
            }
        }
    )

    status: Status
    reason: str | None
    results: Results | None
    queue_position: int
    progress: float
    created_at: float
    updated_at: float


class MultiGpu:
    """The dialect's routes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def router(self) -> APIRouter:
        """Make the routes, documented."""
        routes = APIRouter(tags=["Multi-GPU FastAPI"])

        def post(
            path: str, endpoint: Any, asked: type[BaseModel], answer: type[BaseModel], **more: Any
        ) -> None:
            schema = asked.model_json_schema()
            body = request_body(
                schema["properties"], required=schema["required"], examples={"A task": EXAMPLES[asked]}
            )
            routes.add_api_route(
                path,
                endpoint,
                methods=["POST"],
                response_model=answer,
                openapi_extra={"requestBody": body},
                **more,
            )

        by_id = refusals(400, 404, 415, 422)
        create = refusals(400, 415, 422, 429, 503)
        post("/video/submit", self.submit, Submit, Submitted, status_code=202, responses=create)
        post("/video/status", self.status, TaskId, TaskStatus, responses=by_id)
        post("/video/cancel", self.cancel, TaskId, Cancelled, responses=by_id)
        video = "/videos/{request_id}.mp4"
        routes.add_api_route(
            video,
            self.video,
            methods=["GET"],
            response_class=Response,
            responses={**file_answers("video/mp4"), **refusals(404)},
            openapi_extra={"parameters": FILE_PARAMETERS},
        )
        routes.add_api_route(video, self.video, methods=["HEAD"], include_in_schema=False)
        return routes

    async def submit(self, request: Request) -> Response:
        """Submit a task: checked whole and written before the answer is sent."""
        services = self._services
        body = await read_body(request, max_bytes=services.settings.max_body_bytes)
        asked = read_fields(Submit, body)
        card = chosen_card(services, asked.model)
        try:
            job = await submit(services, read_submit(asked, card), card)
        except InvalidRequest as error:
            name = OUR_NAMES.get(error.param or "")
            raise error if name is None else InvalidRequest(f"{name}: {error.message}", param=name) from None
        return JSONResponse({"requestId": job.id.removeprefix("video_")}, 202)

    async def status(self, request: Request) -> Response:
        """Tell how a task stands."""
        seen = await self._find(await self._task(request))
        file_url = f"{request.base_url}videos/{seen.job.id.removeprefix('video_')}.mp4"
        return Response(status_of(seen, file_url).model_dump_json(), media_type="application/json")

    async def cancel(self, request: Request) -> Response:
        """Cancel a task: one that waits at once, one that runs at its next step."""
        task_id = await self._task(request)
        job = (await self._find(task_id)).job
        if job.state not in TERMINAL:
            await self._services.off_loop(cancel_job, self._services, job.id)
            self._services.scheduling.wake()
            job = await self._settled(task_id)
            if job.state is not State.SUCCEEDED:
                return JSONResponse({"status": "Cancelled"})
        return JSONResponse({"status": "Already finished"})

    async def video(self, request: Request, request_id: str) -> Response:
        """Download a finished clip, whole or one range of it."""
        seen = await self._find(request_id)
        file = seen.job.file("video")
        if file is None or seen.job.state is not State.SUCCEEDED:
            status = status_of(seen, "").status
            raise NotReady(f"There is no video of this task; its status is {status}.", param="requestId")
        return await file_response(request, self._services.artifacts, file, file_name=f"{request_id}.mp4")

    async def _task(self, request: Request) -> str:
        body = await read_body(request, max_bytes=self._services.settings.max_body_bytes)
        return read_fields(TaskId, body).request_id

    async def _find(self, task_id: str) -> View:
        try:
            if _HEX.fullmatch(task_id):
                return await self._services.off_loop(find, self._services, f"video_{task_id}")
        except VideoNotFound:
            pass  # answered below, in the words of the dialect
        raise VideoNotFound("There is no task of this requestId.", param="requestId")

    async def _settled(self, task_id: str) -> Job:
        """Return the job once it has ended, or after a while as it is then."""
        changes = self._services.changes
        deadline = time.monotonic() + CANCEL_WAIT_S
        while True:
            version = changes.version(f"video_{task_id}")
            job = (await self._find(task_id)).job
            if job.state in TERMINAL:
                return job
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await changes.wait(job.id, version)
            except TimeoutError:
                return job


def status_of(seen: View, file_url: str) -> TaskStatus:
    """Return a job in the dialect's words."""
    job, file = seen.job, seen.job.file("video")
    status = STATUSES.get(job.state) or _ended_as(job)
    results = None
    if status == "Succeed" and file is not None:
        duration = round(job.request.duration_s, 3)
        results = Results(video_url=file_url, file_size=file.size_bytes, duration=duration)
    return TaskStatus(
        status=status,
        reason=_reason(job),
        results=results,
        queue_position=0 if seen.queue_position is None else seen.queue_position + 1,
        progress=1.0 if status == "Succeed" else job.tally.percent / 100,
        created_at=job.created_at,
        updated_at=job.finished_at or job.started_at or job.created_at,
    )


def _ended_as(job: Job) -> Status:
    """Tell what an expired job had become."""
    if job.failure is not None:
        return "Failed"
    return "Cancelled" if job.stats is None else "Succeed"


def _reason(job: Job) -> str | None:
    if job.failure is not None:
        return job.failure.message
    return "The clip was removed when its time was over." if job.state is State.EXPIRED else None
