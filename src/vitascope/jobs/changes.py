"""News of jobs inside this process: whoever changes a job notifies, whoever waits for one is woken.

Nothing is stored here; a waiter reads the job itself from the store.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict

MAX_REMEMBERED = 10_000
_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Changes:
    """Ever-growing versions of jobs: take `version`, then read the job, then `wait`: no change is missed.

    `notify` may be called from any thread, `wait` from any event loop. The last jobs are remembered exactly;
    of older ones a waiter may be told once too often, never too seldom.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest = 0
        self._forgotten = 0  # the highest version of all jobs that are no longer remembered
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._waiters: dict[str | None, set[_Waiter]] = {}

    def version(self, job_id: str | None = None) -> int:
        """Return the version of one job, or of all of them together."""
        with self._lock:
            return self._version(job_id)

    def notify(self, job_id: str) -> None:
        """Say that a job changed."""
        with self._lock:
            self._newest += 1
            self._versions[job_id] = self._newest
            self._versions.move_to_end(job_id)
            if len(self._versions) > MAX_REMEMBERED:
                self._forgotten = self._versions.popitem(last=False)[1]
            woken = self._waiters.pop(job_id, set()) | self._waiters.pop(None, set())
        for loop, future in woken:
            _wake(loop, future)

    async def wait(self, job_id: str | None, since_version: int) -> int:
        """Return the version of a job (None: of any) as soon as it is newer than `since_version`."""
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                version = self._version(job_id)
                if version > since_version:
                    return version
                waiter = (loop, loop.create_future())
                self._waiters.setdefault(job_id, set()).add(waiter)
            try:
                await waiter[1]
            finally:
                self._forget(job_id, waiter)

    def _version(self, job_id: str | None) -> int:
        return self._newest if job_id is None else self._versions.get(job_id, self._forgotten)

    def _forget(self, job_id: str | None, waiter: _Waiter) -> None:
        with self._lock:
            waiters = self._waiters.get(job_id)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiters[job_id]


def _wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
