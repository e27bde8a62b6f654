"""The vLLM-Omni dialect: what it has beside OpenAI's routes, `POST /v1/videos/sync`.

Its form fields are in `fields.py`, its storage variables in `config/sources.py`.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from vitascope.api.choosing import chosen_card
from vitascope.api.content import whole_file
from vitascope.api.errors import refusals
from vitascope.api.idempotency import refuse_key
from vitascope.api.intake import read_body
from vitascope.api.reading import read_wish
from vitascope.api.request_schema import CREATE_BODY
from vitascope.api.services import Services
from vitascope.api.submission import submit_waited_for
from vitascope.api.video import video_of
from vitascope.api.waiting import Waiting
from vitascope.errors import InvalidRequest
from vitascope.jobs.job import Job

SYNC_HEADERS = {
    "X-Model": "The model that made the clip.",
    "X-Inference-Time-S": "Device seconds, the wait not counted.",
    "X-Stage-Durations": "Device seconds by stage, a JSON object.",
    "X-Peak-Memory-MB": "The largest use of the device's memory.",
    "X-Warnings": "What the request asked for and could not have, a JSON array; absent if there is nothing.",
}
SYNC_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}},
        "description": "The clip.",
        "headers": {
            name: {"description": about, "schema": {"type": "string"}} for name, about in SYNC_HEADERS.items()
        },
    },
    **refusals(400, 415, 429, 503),
}


class VllmOmni:
    """The dialect's routes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def router(self) -> APIRouter:
        """Make the routes, documented."""
        routes = APIRouter(prefix="/v1/videos", tags=["vLLM-Omni"])
        routes.add_api_route(
            "/sync",
            self.sync,
            methods=["POST"],
            response_class=Response,
            responses=SYNC_ANSWERS,
            openapi_extra={"requestBody": CREATE_BODY},
        )
        return routes

    async def sync(self, request: Request) -> Response:
        """Create a video and wait for it: the answer is the clip. Nothing is stored; leaving cancels it."""
        services = self._services
        refuse_key(request)
        body = await read_body(request, max_bytes=services.settings.max_body_bytes)
        card = chosen_card(services, body.fields.get("model"))
        reading = read_wish(body, card)
        _check_count(reading.wish.num_outputs)
        job = await submit_waited_for(services, reading, card)
        return Waiting(services, job, self._clip)

    async def _clip(self, job: Job) -> Response:
        file = job.file("video")
        assert file is not None, "a job succeeds with its video"
        return await whole_file(self._services.artifacts, file, _headers(job))


def _check_count(num_outputs: int | None) -> None:
    if num_outputs not in {None, 1}:
        raise InvalidRequest(
            f"{num_outputs} clips do not go into one answer; create them with POST /v1/videos.", param="n"
        )


def _headers(job: Job) -> dict[str, str]:
    video = video_of(job)
    headers = {
        "x-model": video.model.encode("ascii", "replace").decode(),
        "x-inference-time-s": f"{video.inference_time_s or 0:.3f}",
        "x-stage-durations": _compact(video.stage_durations),
        "x-peak-memory-mb": f"{video.peak_memory_mb or 0:.3f}",
    }
    return {**headers, "x-warnings": _compact(video.warnings)} if video.warnings else headers


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
