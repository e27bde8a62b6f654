"""A job's life as server-sent events: `status` at every change, `preview` on request, `done` at the end.

Only the newest state is kept for a reader: one that is slow skips steps and never holds anything up.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from typing import Any

from vitascope.api.services import Services
from vitascope.api.video import status_of, video_of
from vitascope.api.views import View, find
from vitascope.errors import VideoNotFound
from vitascope.jobs.job import TERMINAL
from vitascope.wire import Preview

HEARTBEAT_S = 15.0  # a comment that often keeps proxies from closing a quiet stream
END_ID = "end"  # the id of `done`: browsers call again with the last id that they saw, also after the end


class Mailbox:
    """The newest preview, and a bell that rings for it and for changes of the job."""

    def __init__(self) -> None:
        self.bell = asyncio.Event()
        self._preview: Preview | None = None

    def put(self, preview: Preview) -> None:
        """Replace the waiting preview by a newer one."""
        self._preview = preview
        self.bell.set()

    def take(self) -> Preview | None:
        """Return the waiting preview, once."""
        preview, self._preview = self._preview, None
        return preview


async def stream(services: Services, job_id: str, *, previews: bool) -> AsyncGenerator[bytes, None]:
    """Yield a job's events until it has ended or is deleted."""
    mailbox = Mailbox()
    watch = services.scheduling.watch_preview(job_id, mailbox.put) if previews else nullcontext()
    with watch:
        ringer = asyncio.create_task(_ring(services, job_id, mailbox.bell))
        try:
            async with aclosing(_events(services, job_id, mailbox)) as events:
                async for event in events:
                    yield event
        finally:
            ringer.cancel()


async def _ring(services: Services, job_id: str, bell: asyncio.Event) -> None:
    version = services.changes.version(job_id)
    while True:
        bell.set()
        version = await services.changes.wait(job_id, version)


async def _events(services: Services, job_id: str, mailbox: Mailbox) -> AsyncGenerator[bytes, None]:
    shown: dict[str, Any] | None = None
    while True:
        mailbox.bell.clear()
        try:
            seen = await services.off_loop(find, services, job_id)
        except VideoNotFound:
            yield _event("deleted", {"id": job_id})
            return
        if (preview := mailbox.take()) is not None:
            yield _event("preview", {"step": preview.step, "image": _data_url(preview.image)})
        if seen.job.state in TERMINAL:
            yield f"id: {END_ID}\n".encode() + _event("done", video_of(seen.job).model_dump())
            return
        if services.stopping.is_set():
            return  # browsers call again by themselves, and the job goes on at the next start
        if (now := _status(seen)) != shown:
            shown = now
            yield _event("status", now)
        try:
            async with asyncio.timeout(HEARTBEAT_S):  # wait_for of Python 3.11 can lose a cancellation
                await mailbox.bell.wait()
        except TimeoutError:
            yield b": still here\n\n"


def _status(seen: View) -> dict[str, Any]:
    tally = seen.job.tally
    return {
        "id": seen.job.id,
        "status": status_of(seen.job),
        "stage": tally.stage,
        "step": tally.step,
        "num_steps": tally.num_steps,
        "progress": tally.percent,
        "eta_s": None if seen.eta_s is None else round(seen.eta_s, 2),
        "queue_position": seen.queue_position,
    }


def _data_url(image: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(image).decode("ascii")


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
