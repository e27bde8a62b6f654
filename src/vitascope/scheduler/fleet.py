"""The fleet: starts worker processes, one for each berth, watches them and starts a lost one again.

It carries messages and knows nothing of jobs but whether a worker comes on with them: one that hangs is
killed. Everything that happens to a worker, its loss included, comes out of one queue in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from vitascope.config import Settings
from vitascope.scheduler.process import WORKER, WorkerProcess
from vitascope.scheduler.pulse import Pulse
from vitascope.wire import Command, Event, LoadFailed, Ready, Shutdown, WireError

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 30.0
MAX_EARLY_ENDS = 3  # workers in a row that end while they load, before one was ever ready
END_GRACE_S = 1.0
LOOK_S = 1.0  # between two looks at whether a worker comes on
SLOWER = 10.0  # how many times what a quantum took before one may take
NOT_STARTED = 127  # the status of a worker that could not even be started, as shells have it

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone with all it held; a negative `status` is the signal that killed it.

    After a `final` one no other is started in its place. `hung_s` is how long it had made no headway when it
    was killed for that, else None.
    """

    status: int
    final: bool = False
    hung_s: float | None = None


News = tuple[str, Event | Lost]


def backoff_s(failures: int) -> float:
    """Return how long to wait before a start, after so many workers in a row that never became ready."""
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0**failures)


def berth_of(worker: str) -> str:
    """Return the berth that a worker is in."""
    return worker.rpartition(".")[0]


@dataclass(slots=True, eq=False)
class _Berth:
    """A place for one worker at a time. `unwell` counts the last ones in a row that never became ready."""

    name: str
    settings: Settings
    starts: int = 0
    unwell: int = 0
    was_ready: bool = False
    refused: bool = False  # the model cannot be loaded, as the worker itself said
    process: WorkerProcess | None = None
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        """Whether no other worker is to be started: a model that was never loaded may well be broken."""
        hopeless = self.refused or self.unwell >= MAX_EARLY_ENDS
        return self.ending.is_set() or (hopeless and not self.was_ready)


class Fleet:
    """Local worker processes, each in a berth. A worker that is started again gets a new name.

    One that makes no headway for `hang_after_s` (0: for ever) is killed; for longer, if `slowest_s` knows a
    quantum of its work to take a good part of that. `sleep` is the clock.
    """

    def __init__(
        self,
        command: Sequence[str] = WORKER,
        *,
        hang_after_s: float = 0.0,
        slowest_s: Callable[[str], float] = lambda _worker: 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.news: asyncio.Queue[News] = asyncio.Queue()
        self._command = command
        self._hang_after_s = hang_after_s
        self._slowest_s = slowest_s
        self._sleep = sleep
        self._pulses: dict[str, Pulse] = {}
        self._berths: dict[str, tuple[_Berth, asyncio.Task[None]]] = {}
        self._workers: dict[str, WorkerProcess] = {}
        self._ready: set[str] = set()

    def start(self, berth: str, settings: Settings) -> None:
        """Keep a worker with these settings running in a new berth; `Ready` comes once it has its model."""
        new = _Berth(berth, settings)
        self._berths[berth] = new, asyncio.create_task(self._supervise(new))

    def send(self, worker: str, command: Command) -> None:
        """Send a command to a worker; to one that was lost meanwhile it is not sent."""
        process = self._workers.get(worker)
        if process is not None:
            self._pulses[worker].sent(command)
            process.send(command)

    async def end(self, berth: str) -> None:
        """End a berth and its worker now, whatever that does; returns when its memory is free."""
        if berth not in self._berths:
            return
        there, supervisor = self._berths[berth]
        there.ending.set()
        if there.process is not None:
            await there.process.end(0.0)
        await asyncio.wait([supervisor])

    async def stop(self, grace_s: float) -> None:
        """Ask the workers to park their jobs and exit; after `grace_s` make them."""
        supervisors = [supervisor for _, supervisor in self._berths.values()]
        for berth, _ in self._berths.values():
            berth.ending.set()
        for name, process in list(self._workers.items()):
            if name in self._ready:
                process.send(Shutdown())
            else:  # it still loads, there is nothing to save
                await process.end(0.0)
        if supervisors:
            await asyncio.wait(supervisors, timeout=grace_s)
        for process in list(self._workers.values()):
            await process.end(END_GRACE_S)
        await asyncio.gather(*supervisors)

    async def _supervise(self, berth: _Berth) -> None:
        while not berth.over:
            berth.starts += 1
            worker = f"{berth.name}.{berth.starts}"
            status, hung_s = await self._live(berth, worker)
            was_ready = worker in self._ready
            berth.was_ready |= was_ready
            berth.unwell = 0 if was_ready else berth.unwell + 1
            self._ready.discard(worker)
            self.news.put_nowait((worker, Lost(status, final=berth.over, hung_s=hung_s)))
            if not berth.over:
                await _pause(berth, backoff_s(berth.unwell))
        del self._berths[berth.name]

    async def _live(self, berth: _Berth, worker: str) -> tuple[int, float | None]:
        """Run one worker from start to end; return its status, and how long it hung if it did."""
        try:
            berth.process = process = await WorkerProcess.spawn(berth.settings, self._command)
        except OSError:  # no more processes or descriptors; that may pass
            log.exception("a worker cannot be started")
            return NOT_STARTED, None
        self._workers[worker], self._pulses[worker] = process, Pulse()
        watch = asyncio.create_task(self._watch(worker, process))
        log.info("%s started (pid %d)", worker, process.pid)
        if berth.ending.is_set():  # meanwhile
            await process.end(0.0)
        try:
            async for event in process.events():
                self._note(berth, worker, event)
                self.news.put_nowait((worker, event))
        except WireError:
            log.exception("%s spoke nonsense", worker)
        watch.cancel()
        status = await process.end(END_GRACE_S)
        (hung_s,) = await asyncio.gather(watch, return_exceptions=True)
        del self._workers[worker], self._pulses[worker]
        berth.process = None
        log.log(logging.INFO if berth.ending.is_set() else logging.WARNING, "%s ended (%d)", worker, status)
        return status, hung_s if isinstance(hung_s, float) else None

    async def _watch(self, worker: str, process: WorkerProcess) -> float | None:
        """Kill a worker that hangs, and return for how long it did."""
        if self._hang_after_s == 0:
            return None
        pulse = self._pulses[worker]
        while pulse.silent_s <= max(self._hang_after_s, SLOWER * self._slowest_s(worker)):
            await self._sleep(LOOK_S)
            pulse.passed(LOOK_S)
        log.error("%s made no headway for %.0f s and is killed", worker, pulse.silent_s)
        process.kill()
        return pulse.silent_s

    def _note(self, berth: _Berth, worker: str, event: Event) -> None:
        self._pulses[worker].heard(event)
        if isinstance(event, Ready):
            self._ready.add(worker)
        elif isinstance(event, LoadFailed):
            berth.refused = True


async def _pause(berth: _Berth, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await berth.ending.wait()
