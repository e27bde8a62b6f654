"""The OpenAI Videos dialect: `/v1/videos` as its SDKs speak it, with our cancel and events beside it."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse

from vitascope.api.cancelling import cancel_job
from vitascope.api.choosing import chosen_card
from vitascope.api.content import FILE_PARAMETERS, file_answers, file_response
from vitascope.api.edits import EDIT_BODY, EXTENSION_BODY, card_of, read_edit, read_extension
from vitascope.api.errors import refusals
from vitascope.api.events import END_ID, stream
from vitascope.api.idempotency import PARAMETER, once
from vitascope.api.intake import Body, read_body
from vitascope.api.reading import Reading, read_wish
from vitascope.api.remix import REMIX_BODY, read_prompt, submit_remix
from vitascope.api.request_schema import CREATE_BODY
from vitascope.api.services import Services
from vitascope.api.submission import submit
from vitascope.api.video import DeletedVideo, Video, VideoList, status_of, video_of
from vitascope.api.views import View, find, page
from vitascope.card import ModelCard
from vitascope.errors import Expired, InvalidRequest, NotFound, NotReady
from vitascope.jobs.job import TERMINAL, Idempotency, Job, State
from vitascope.jobs.store import Order
from vitascope.wire import StoredFile

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
POLLS_PER_JOB, MIN_POLL_MS, MAX_POLL_MS, UNKNOWN_POLL_MS = 20, 250, 10_000, 1000
ORDERS: dict[str, Order] = {"asc": "asc", "desc": "desc"}
FILE_NAMES = {
    "video": "{}.mp4",
    "thumbnail": "{}-thumbnail.webp",
    "spritesheet": "{}-spritesheet.jpg",
    "audio": "{}.wav",
}
_INDEX = re.compile(r"\d{1,4}", re.ASCII)
SHARED: list[str | Enum] = ["vLLM-Omni", "SGLang"]  # the other dialects of a route
CONTENT_ANSWERS = {**file_answers("video/mp4", "image/webp", "image/jpeg", "audio/wav"), **refusals(400, 404)}
EVENTS_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}  # the second is for nginx
EVENTS_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/event-stream": {"example": 'event: status\ndata: {"status":"queued"}\n\n'}},
        "description": "Server-sent events; the stream ends after `done` or `deleted`.",
        "headers": {
            "cache-control": {"description": "`no-store`", "schema": {"type": "string"}},
            "x-accel-buffering": {"description": "`no`", "schema": {"type": "string"}},
        },
    },
    204: {"description": "The caller has seen `done`; browsers ask no more."},
    **refusals(400, 404),
}

Call = Callable[..., Awaitable[Response]]
Tags = list[str | Enum] | None


class OpenAIVideos:
    """The dialect's routes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def router(self) -> APIRouter:
        """Make the routes, documented."""
        routes = APIRouter(prefix="/v1/videos", tags=["OpenAI Videos"])
        add, one, unknown = routes.add_api_route, "/{video_id}", refusals(404)

        def post(path: str, call: Call, body: dict[str, Any], *statuses: int, tags: Tags = None) -> None:
            add(
                path,
                call,
                methods=["POST"],
                response_model=Video,
                tags=tags,
                responses=refusals(*statuses),
                openapi_extra={"requestBody": body, "parameters": [PARAMETER]},
            )

        post("", self.create, CREATE_BODY, 400, 415, 429, 503, tags=SHARED)
        add("", self.list, methods=["GET"], response_model=VideoList, tags=SHARED, responses=refusals(400))
        post("/edits", self.edit, EDIT_BODY, 400, 404, 415, 429, 503)
        post("/extensions", self.extend, EXTENSION_BODY, 400, 404, 415, 429, 503)
        add(one, self.retrieve, methods=["GET"], response_model=Video, tags=SHARED, responses=unknown)
        add(one, self.delete, methods=["DELETE"], response_model=DeletedVideo, tags=SHARED, responses=unknown)
        add(f"{one}/cancel", self.cancel, methods=["POST"], response_model=Video, responses=unknown)
        post(f"{one}/remix", self.remix, REMIX_BODY, 400, 404, 415, 429, 503)
        add(
            f"{one}/content",
            self.content,
            methods=["GET"],
            response_class=Response,
            tags=SHARED,
            responses=CONTENT_ANSWERS,
            openapi_extra={"parameters": FILE_PARAMETERS},
        )
        add(f"{one}/content", self.content, methods=["HEAD"], include_in_schema=False)
        add(
            f"{one}/events",
            self.events,
            methods=["GET"],
            response_class=StreamingResponse,
            responses=EVENTS_ANSWERS,
        )
        return routes

    async def create(self, request: Request) -> Response:
        """Create a video: the request is checked whole, its job is written, and the answer is the job."""
        services = self._services
        body = await read_body(request, max_bytes=services.settings.max_body_bytes)
        card = chosen_card(services, body.fields.get("model"))

        async def submit_new(mark: Idempotency | None) -> Job:
            return await submit(services, read_wish(body, card), card, idempotency=mark)

        job = await once(services, request, body, submit_new)
        return await self.retrieve(job.id)

    async def edit(self, request: Request) -> Response:
        """Make a clip anew after a prompt: an earlier video by its id, or an uploaded clip."""
        return await self._from_clip(request, read_edit)

    async def extend(self, request: Request) -> Response:
        """Let a clip go on: the answer's video is the clip and what follows its last frame, joined."""
        return await self._from_clip(request, read_extension)

    async def _from_clip(self, request: Request, read: Callable[[Body, ModelCard], Reading]) -> Response:
        services = self._services
        body = await read_body(request, max_bytes=services.settings.max_body_bytes)

        async def submit_new(mark: Idempotency | None) -> Job:
            card = await card_of(services, body)
            return await submit(services, read(body, card), card, idempotency=mark)

        job = await once(services, request, body, submit_new)
        return await self.retrieve(job.id)

    async def list(
        self,
        after: Annotated[str | None, Query(description="The id after which the page begins.")] = None,
        limit: Annotated[str | None, Query(description="From 1 to 100; 20 if left out.")] = None,
        order: Annotated[str, Query(description="desc (newest first) or asc.")] = "desc",
    ) -> Response:
        """List videos; `last_id` of a page is the next one's `after`."""
        direction = _order(order)
        views, more = await self._services.off_loop(page, self._services, after, _limit(limit), direction)
        data = [_video(seen) for seen in views]
        first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
        return _json(VideoList(data=data, first_id=first_id, last_id=last_id, has_more=more))

    async def retrieve(self, video_id: str) -> Response:
        """Retrieve a video; while it is unfinished, `openai-poll-after-ms` says when to ask again."""
        seen = await self._find(video_id)
        unfinished = seen.job.state not in TERMINAL
        headers = {"openai-poll-after-ms": str(_poll_after_ms(seen.eta_s))} if unfinished else {}
        return _json(_video(seen), headers)

    async def delete(self, video_id: str) -> Response:
        """Delete a video and its files; one that waits or runs is cancelled first."""
        await self._services.off_loop(_delete, self._services, video_id)
        self._services.scheduling.wake()
        return _json(DeletedVideo(id=video_id))

    async def cancel(self, video_id: str) -> Response:
        """Cancel a video: it stops at its next step and its row is kept. A finished one is left as it is."""
        await self._services.off_loop(_cancel, self._services, video_id)
        self._services.scheduling.wake()
        return await self.retrieve(video_id)

    async def remix(self, request: Request, video_id: str) -> Response:
        """Make a completed video again with another prompt; settings, seed and pictures stay."""
        services = self._services
        body = await read_body(request, max_bytes=services.settings.max_body_bytes)
        prompt = read_prompt(body)

        async def submit_new(mark: Idempotency | None) -> Job:
            original = (await self._find(video_id)).job
            _finished_file(original, "video")
            card = chosen_card(services, original.request.model, aliases=False)
            return await submit_remix(services, original, prompt, card, idempotency=mark)

        job = await once(services, request, body, submit_new)
        return await self.retrieve(job.id)

    async def content(
        self,
        request: Request,
        video_id: str,
        variant: Annotated[
            str,
            Query(
                description="video (MP4), thumbnail (WebP), spritesheet (JPEG) or, where the model makes "
                "sound, audio (WAV); N is video with index=N."
            ),
        ] = "video",
        index: Annotated[
            str | None, Query(description="Which of several outputs, counted from 0; the first if left out.")
        ] = None,
    ) -> Response:
        """Download a video or one of its stills, whole or one range of it."""
        variant, output = _wanted(variant, index)
        job = (await self._find(video_id)).job
        file = _finished_file(job, variant, output)
        name = FILE_NAMES[variant].format(f"{job.id}-{output}" if output else job.id)
        return await file_response(request, self._services.artifacts, file, file_name=name)

    async def events(
        self,
        video_id: str,
        preview: Annotated[str, Query(description="true: send preview pictures too.")] = "false",
        last_event_id: Annotated[str, Header(description="The last id that the caller saw.")] = "",
    ) -> Response:
        """Follow a video: `status` at every change, `preview` on request, `done` at the end."""
        if preview not in {"true", "false"}:
            raise InvalidRequest("preview must be 'true' or 'false'.", param="preview")
        await self._find(video_id)
        if last_event_id == END_ID:
            return Response(status_code=204)
        lines = stream(self._services, video_id, previews=preview == "true")
        return StreamingResponse(lines, 200, EVENTS_HEADERS, "text/event-stream")

    async def _find(self, video_id: str) -> View:
        return await self._services.off_loop(find, self._services, video_id)


def _poll_after_ms(eta_s: float | None) -> int:
    if eta_s is None:
        return UNKNOWN_POLL_MS
    return int(min(max(eta_s * 1000 / POLLS_PER_JOB, MIN_POLL_MS), MAX_POLL_MS))


def _video(seen: View) -> Video:
    return video_of(seen.job, queue_position=seen.queue_position, eta_s=seen.eta_s)


def _json(content: Video | VideoList | DeletedVideo, headers: dict[str, str] | None = None) -> Response:
    return Response(content.model_dump_json(), 200, headers, "application/json")


def _order(given: str) -> Order:
    if given not in ORDERS:
        raise InvalidRequest(
            f"Invalid value: {given[:40]!r}. Supported values are: 'asc' and 'desc'.", param="order"
        )
    return ORDERS[given]


def _limit(given: str | None) -> int:
    if given is None:
        return DEFAULT_LIMIT
    value = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    if not 1 <= value <= MAX_LIMIT:
        raise InvalidRequest(
            f"Invalid 'limit': {given[:20]!r}; it must be an integer from 1 to {MAX_LIMIT}.", param="limit"
        )
    return value


def _wanted(variant: str, index: str | None) -> tuple[str, int]:
    """Read which file of which output is meant; SGLang's clients give the output as the variant."""
    if _INDEX.fullmatch(variant) and index in {None, variant}:
        variant, index = "video", variant
    if variant not in FILE_NAMES:
        known = ", ".join(map(repr, FILE_NAMES))
        raise InvalidRequest(
            f"Invalid value: {variant[:40]!r}. Supported values are: {known}.", param="variant"
        )
    if index is not None and not _INDEX.fullmatch(index):
        raise InvalidRequest(f"Invalid 'index': {index[:20]!r}; outputs are counted from 0.", param="index")
    return variant, int(index or 0)


def _finished_file(job: Job, variant: str, output: int = 0) -> StoredFile:
    if output >= job.request.num_outputs:
        raise NotFound(
            f"There is no output {output}; this video has {job.request.num_outputs}, counted from 0.",
            param="index",
        )
    file = job.file(variant, output)
    if file is not None and job.state is State.SUCCEEDED:
        return file
    if job.state is State.SUCCEEDED:  # an earlier version of the server made it, or the model makes no sound
        what = "sound" if variant == "audio" else f"a {variant}"
        raise NotFound(f"This video was made without {what}; use variant=video.", param="variant")
    if job.state is State.EXPIRED:
        raise Expired("The video has expired; its file was removed.", param="video_id")
    if status_of(job) == "failed":
        raise NotReady(
            "The generation failed, so that there is no content; GET /v1/videos/{video_id} says why.",
            param="video_id",
        )
    raise NotReady("Video is not ready yet, use GET /v1/videos/{video_id} to check status.", param="video_id")


def _delete(services: Services, job_id: str) -> None:
    """Delete the row first: no reader is shown a clip that is gone, and what is left is swept later."""
    find(services, job_id)
    for file in services.store.delete(job_id, time.time()).files:
        services.artifacts.delete(file.key)


def _cancel(services: Services, job_id: str) -> None:
    find(services, job_id)
    cancel_job(services, job_id)
