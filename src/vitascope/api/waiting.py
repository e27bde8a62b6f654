"""Calls that wait for their jobs: durable jobs like any other, but they end when their caller leaves.

Once the answer was sent, or could not be, nothing of them is left but what the answer chose to keep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from fastapi.responses import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from vitascope.api.services import Services
from vitascope.errors import Cancelled, NotFound, of_code
from vitascope.jobs.job import Job, State

Answer = Callable[[Sequence[Job]], Awaitable[Response]]


class Waiting(Response):
    """Waits until all jobs have succeeded, then sends what `answer` makes of them.

    Raises the first failure of a job instead. A cancelled job raises `cancelled`. However it ends, jobs that
    are still waited for are cancelled and deleted, and then `around` is left.
    """

    def __init__(
        self,
        services: Services,
        jobs: Sequence[Job],
        answer: Answer,
        *,
        cancelled: type[Cancelled] = Cancelled,
        around: AbstractContextManager[object] | None = None,
    ) -> None:
        super().__init__()
        self._services = services
        self._ids = [job.id for job in jobs]
        self._answer = answer
        self._cancelled = cancelled
        self._around = around or nullcontext()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        with self._around:
            try:
                response = await self._answer(await self._all_done(receive))
                await response(scope, receive, send)
            finally:
                await self._services.off_loop(let_go, self._services, self._ids)
                self._services.scheduling.wake()

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


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect
