"""The fleet: starts the worker processes, watches them and starts a lost one again.

It carries messages and knows nothing of jobs. Everything that happens to a worker, its loss included, comes
out of one queue in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from vitascope.config import Settings
from vitascope.scheduler.process import WORKER, WorkerProcess
from vitascope.wire import Command, Event, Ready, Shutdown, WireError

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 30.0
END_GRACE_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone with all it held; a negative `status` is the signal that killed it."""

    status: int


News = tuple[str, Event | Lost]


def backoff_s(failures: int) -> float:
    """Return how long to wait before a start, after so many workers in a row that never became ready."""
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0**failures)


class Fleet:
    """`size` local worker processes. A worker that is started again gets a new name."""

    def __init__(self, settings: Settings, size: int = 1, command: Sequence[str] = WORKER) -> None:
        self.news: asyncio.Queue[News] = asyncio.Queue()
        self._settings = settings
        self._size = size
        self._command = command
        self._workers: dict[str, WorkerProcess] = {}
        self._ready: set[str] = set()
        self._stopping = asyncio.Event()
        self._supervisors: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the workers; `Ready` comes out of `news` once each has loaded its model."""
        self._supervisors = [asyncio.create_task(self._supervise(slot)) for slot in range(self._size)]

    def send(self, worker: str, command: Command) -> None:
        """Send a command to a worker; to one that was lost meanwhile it is not sent."""
        process = self._workers.get(worker)
        if process is not None:
            process.send(command)

    async def stop(self, grace_s: float) -> None:
        """Ask the workers to park their jobs and exit; after `grace_s` make them."""
        self._stopping.set()
        for name, process in list(self._workers.items()):
            if name in self._ready:
                process.send(Shutdown())
            else:  # it still loads, there is nothing to save
                await process.end(0.0)
        if self._supervisors:
            await asyncio.wait(self._supervisors, timeout=grace_s)
        for process in list(self._workers.values()):
            await process.end(END_GRACE_S)
        await asyncio.gather(*self._supervisors)

    async def _supervise(self, slot: int) -> None:
        failures = 0
        starts = 0
        while not self._stopping.is_set():
            starts += 1
            try:
                was_ready = await self._live(f"worker-{slot}.{starts}")
            except OSError:  # no more processes or descriptors; that may pass
                log.exception("a worker cannot be started")
                was_ready = False
            failures = 0 if was_ready else failures + 1
            await self._pause(backoff_s(failures))

    async def _live(self, name: str) -> bool:
        """Run one worker from start to end; return whether it was ever ready."""
        process = await WorkerProcess.spawn(self._settings, self._command)
        self._workers[name] = process
        log.info("%s started (pid %d)", name, process.pid)
        if self._stopping.is_set():  # meanwhile
            await process.end(0.0)
        try:
            async for event in process.events():
                if isinstance(event, Ready):
                    self._ready.add(name)
                self.news.put_nowait((name, event))
        except WireError:
            log.exception("%s spoke nonsense", name)
        status = await process.end(END_GRACE_S)
        del self._workers[name]
        log.log(logging.INFO if self._stopping.is_set() else logging.WARNING, "%s ended (%d)", name, status)
        self.news.put_nowait((name, Lost(status)))
        return name in self._ready

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
