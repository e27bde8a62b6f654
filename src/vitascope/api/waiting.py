"""Calls that wait for their jobs: durable jobs like any other, but they end when their caller leaves.

Once the answer was sent, or could not be, nothing of them is left but what the answer chose to keep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from fastapi.responses import Response
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from vitascope.api.services import Services
from vitascope.errors import Cancelled, NotFound, Unavailable, of_code
from vitascope.jobs.job import Job, State

Answer = Callable[[Sequence[Job]], Awaitable[Response]]


def _nothing() -> None:
    """Do nothing at the end."""


class Waiting(Response):
    """Waits until all jobs have succeeded, then sends what `answer` makes of them.

    Raises the first failure of a job instead. A cancelled job raises `cancelled`. However it ends, jobs that
    are still waited for are cancelled and deleted, and `on_end` is called, twice perhaps; both come before
    the last bytes are sent, so that who has the whole answer finds nothing behind it.
    """

    def __init__(
        self,
        services: Services,
        jobs: Sequence[Job],
        answer: Answer,
        *,
        cancelled: type[Cancelled] = Cancelled,
        on_end: Callable[[], None] = _nothing,
    ) -> None:
        super().__init__()
        self._services = services
        self._ids = [job.id for job in jobs]
        self._answer = answer
        self._cancelled = cancelled
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        try:
            response = await self._answer(await self._all_done(receive))
            await response(scope, receive, _before_the_end(send, self._release))
        finally:
            await self._release()

    async def _release(self) -> None:
        try:
            await self._services.off_loop(let_go, self._services, self._ids)
        finally:
            self._services.scheduling.wake()
            self._on_end()

    async def _all_done(self, receive: Receive) -> list[Job]:
        waits = [asyncio.create_task(self._done(job_id)) for job_id in self._ids]
        leaving = asyncio.create_task(_left(receive))
        try:
            while running := [wait for wait in waits if not wait.done()]:
                ended, _ = await asyncio.wait([leaving, *running], return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
            return [wait.result() for wait in waits]
        finally:
            for task in (leaving, *waits):
                task.cancel()
            await asyncio.gather(leaving, *waits, return_exceptions=True)

    async def _done(self, job_id: str) -> Job:
        changes = self._services.changes
        while True:
            version = changes.version(job_id)
            job = await self._services.off_loop(self._read, job_id)
            if job.state is State.SUCCEEDED:
                return job
            if self._services.stopping.is_set():
                raise Unavailable("The server is stopping; send the request again in a moment.")
            await changes.wait(job_id, version)

    def _read(self, job_id: str) -> Job:
        try:
            job = self._services.store.get(job_id)
        except NotFound:
            raise self._cancelled("The video was deleted while it was waited for.") from None
        if job.failure is not None:
            raise of_code(job.failure.code, job.failure.message)
        if job.state is State.CANCELLED:
            raise self._cancelled("The request has been cancelled.")
        return job


def let_go(services: Services, job_ids: Sequence[str]) -> None:
    """Cancel and delete those of the jobs that are still waited for, with their files; blocking."""
    for job_id in job_ids:
        try:
            if services.store.get(job_id).waited_for:
                for file in services.store.delete(job_id, time.time()).files:
                    services.artifacts.delete(file.key)
        except NotFound:
            continue  # somebody else deleted it


def _before_the_end(send: Send, act: Callable[[], Awaitable[None]]) -> Send:
    """Send each message when the next one comes, and `act` before the last ones go."""
    held: list[Message] = []

    async def delayed(message: Message) -> None:
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if ends:
            await act()
        held.append(message)
        while len(held) > (0 if ends else 1):
            await send(held.pop(0))

    return delayed


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect
