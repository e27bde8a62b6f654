"""From a reading to a job in the store: every refusal comes before the row, the row before the answer.

All dialects submit here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from vitascope.api.headers import REQUEST_ID
from vitascope.api.pictures import Source
from vitascope.api.reading import Reading
from vitascope.api.services import Services
from vitascope.api.source_clips import TO_COME, Plan, find_clip, keep, plan
from vitascope.card import ModelCard, request_warnings, resolve
from vitascope.errors import InvalidMedia, InvalidRequest, QueueFull
from vitascope.jobs.job import Idempotency, Job, new_id
from vitascope.request import GenerationRequest

log = logging.getLogger("vitascope.api")


async def submit(
    services: Services, reading: Reading, card: ModelCard, *, idempotency: Idempotency | None = None
) -> Job:
    """Check everything, keep the pictures, write the row, wake the scheduler; return the queued job.

    If another request of the same idempotency key was faster, its job is returned.

    Raises:
        InvalidRequest: the model cannot do that, or a picture cannot be used.
        QueueFull: as many jobs wait as the operator allows.

    """
    return await _write(services, replace(await _accepted(services, reading, card), idempotency=idempotency))


async def submit_waited_for(services: Services, reading: Reading, card: ModelCard) -> Job:
    """Submit a job for a caller who waits. Raises what `submit` raises."""
    return await _write(services, replace(await _accepted(services, reading, card), waited_for=True))


async def _write(services: Services, queued: Job) -> Job:
    """Write the row, say so in the log, wake the scheduler."""
    job = await services.off_loop(services.store.submit, queued)
    if job.id == queued.id:  # else an earlier request made it
        log.info("queued", extra={"job_id": job.id, "request_id": REQUEST_ID.get()})
    services.scheduling.wake()
    return job


def _resolve(reading: Reading, card: ModelCard) -> GenerationRequest:
    wish = replace(
        reading.wish,
        first_frame=TO_COME if reading.first_frame else reading.wish.first_frame,
        last_frame=TO_COME if reading.last_frame else None,
    )
    try:
        return resolve(wish, card)
    except InvalidRequest as error:
        if reading.sized_by is not None and error.param in {"width", "height"}:
            error.param = reading.sized_by
        raise


async def _accepted(services: Services, reading: Reading, card: ModelCard) -> Job:
    """Check everything and keep what the request is made from; the job is not written yet."""
    source = await _fetched(services, reading.video)
    planned = None if source is None else plan(reading, card, await find_clip(services, source))
    reading = reading if planned is None else planned.reading
    request = _resolve(reading, card)
    if planned is not None:
        _check_clip(services, planned, request)
    await services.off_loop(check_room, services)
    if reading.first_frame is not None or reading.last_frame is not None:
        reading = replace(
            reading,
            first_frame=await _fetched(services, reading.first_frame),
            last_frame=await _fetched(services, reading.last_frame),
        )
        request = await asyncio.to_thread(_keep_pictures, services, reading, request)
    if planned is None:
        return _queued(request, reading, card)
    job = _queued(await keep(services, planned, request), reading, card)
    original = planned.clip.original
    return job if original is None else replace(job, remixed_from=original.id)


def _check_clip(services: Services, planned: Plan, request: GenerationRequest) -> None:
    """Refuse a clip that is too short for what is asked, or a joined one that gets too long."""
    planned.fit(request)
    most = services.settings.max_input_frames
    if request.total_frames > most:
        raise InvalidRequest(
            f"The whole clip would have {request.total_frames} frames; at most {most} are joined here.",
            param=planned.clip.param,
        )


async def _fetched(services: Services, source: Source | None) -> Source | None:
    if source is None or not source.elsewhere:
        return source
    try:
        return Source(source.param, await services.fetcher.fetch(source.url))
    except InvalidMedia as error:
        error.param = source.param
        raise


def _queued(request: GenerationRequest, reading: Reading, card: ModelCard) -> Job:
    warnings = (*reading.warnings, *request_warnings(request, card))
    return Job(id=new_id(), request=request, created_at=time.time(), warnings=warnings)


def check_room(services: Services) -> None:
    """Refuse what would make the line too long; blocking. Raises `QueueFull`."""
    # Creates that arrive together may pass it together; the limit keeps a line short, not exact.
    limit = services.settings.max_queue
    if services.store.num_waiting() >= limit:
        raise QueueFull(f"The queue is full (limit {limit}); try again later.")


def _keep_pictures(services: Services, reading: Reading, request: GenerationRequest) -> GenerationRequest:
    def keep_one(source: Source | None) -> str | None:
        if source is None:
            return None
        return services.inputs.keep(
            source.content(),
            width=request.width,
            height=request.height,
            resize_mode=reading.resize_mode,
            param=source.param,
        )

    first, last = keep_one(reading.first_frame), keep_one(reading.last_frame)
    return replace(request, first_frame=first or request.first_frame, last_frame=last)
