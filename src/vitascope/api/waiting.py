"""Calls that wait for their job: a durable one like any other, but it ends when its caller leaves.

Once the answer was sent, or could not be, nothing of it is left but what the answer chose to keep; if the
store may not answer just then, as soon as it does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

from fastapi.responses import Response
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from vitascope.api.services import Services
from vitascope.errors import Cancelled, NotFound, StoreUnavailable, Unavailable, of_code
from vitascope.jobs.job import Job, State

TRY_AGAIN_S = 0.5  # while the store may not answer

Answer = Callable[[Job], Awaitable[Response]]


def _nothing() -> None:
    """Do nothing at the end."""


class Waiting(Response):
    """Waits until a job has succeeded, then sends what `answer` makes of it.

    Raises the job's failure instead. A cancelled job raises `cancelled`. However it ends, a job that is still
    waited for is cancelled and deleted, and `on_end` is called, twice perhaps; both come before the last
    bytes are sent, so that who has the whole answer finds nothing behind it.
    """

    def __init__(
        self,
        services: Services,
        job: Job,
        answer: Answer,
        *,
        cancelled: type[Cancelled] = Cancelled,
        on_end: Callable[[], None] = _nothing,
    ) -> None:
        super().__init__()
        self._services = services
        self._id = job.id
        self._answer = answer
        self._cancelled = cancelled
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        try:
            response = await self._answer(await self._done_or_left(receive))
            await response(scope, receive, _before_the_end(send, self._release))
        finally:
            await self._release()

    async def _release(self) -> None:
        try:
            if not await self._let_go():
                errand = asyncio.create_task(self._let_go_later())
                self._services.errands.add(errand)
                errand.add_done_callback(self._services.errands.discard)
        finally:
            self._services.scheduling.wake()
            self._on_end()

    async def _let_go(self) -> bool:
        """Let the job go; false if the store does not answer."""
        try:
            await self._services.off_loop(let_go, self._services, self._id)
        except StoreUnavailable:
            return False
        return True

    async def _let_go_later(self) -> None:
        """Let the job go once the store answers; if the server stops before, its next start does it."""
        while True:
            await asyncio.sleep(TRY_AGAIN_S)
            if self._services.stopping.is_set() or await self._let_go():
                break
        self._services.scheduling.wake()

    async def _done_or_left(self, receive: Receive) -> Job:
        done, leaving = asyncio.create_task(self._done()), asyncio.create_task(_left(receive))
        try:
            await asyncio.wait([done, leaving], return_when=asyncio.FIRST_COMPLETED)
            return done.result() if done.done() else leaving.result()
        finally:
            done.cancel()
            leaving.cancel()
            await asyncio.gather(done, leaving, return_exceptions=True)

    async def _done(self) -> Job:
        changes = self._services.changes
        while True:
            version = changes.version(self._id)
            job = await self._services.off_loop(self._read)
            if job.state is State.SUCCEEDED:
                return job
            if self._services.stopping.is_set():
                raise Unavailable("The server is stopping; send the request again in a moment.")
            await changes.wait(self._id, version)

    def _read(self) -> Job:
        try:
            job = self._services.store.get(self._id)
        except NotFound:
            raise self._cancelled("The video was deleted while it was waited for.") from None
        if job.failure is not None:
            raise of_code(job.failure.code, job.failure.message)
        if job.state is State.CANCELLED:
            raise self._cancelled("The request has been cancelled.")
        return job


def let_go(services: Services, job_id: str) -> None:
    """Cancel and delete a job, with its files, if it is still waited for; blocking."""
    with suppress(NotFound):  # somebody else deleted it
        if services.store.get(job_id).waited_for:
            for file in services.store.delete(job_id, time.time()).files:
                services.artifacts.delete(file.key)


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


async def _left(receive: Receive) -> NoReturn:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect
