"""Which model's worker lies in which berth of the fleet: workers are started for models and taken away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from itertools import count
from typing import Any, Protocol

from vitascope.config import Settings
from vitascope.jobs.job import Failure
from vitascope.launch import InstanceState
from vitascope.scheduler.fleet import berth_of
from vitascope.scheduler.roster import Roster
from vitascope.scheduler.slots import Slot
from vitascope.wire import Command

log = logging.getLogger(__name__)


class Berths(Protocol):
    """What is needed of the fleet."""

    def start(self, berth: str, settings: Settings) -> None:
        """Keep a worker with these settings running in a new berth."""

    async def end(self, berth: str) -> None:
        """End a berth and its worker now; returns when its memory is free."""

    def send(self, worker: str, command: Command) -> None:
        """Send a command to a worker."""


class Moorings:
    """The berths of one launcher's models. A berth's name is never used again."""

    def __init__(self, fleet: Berths, roster: Roster) -> None:
        self._fleet = fleet
        self._roster = roster
        self._slots: dict[str, Slot] = {}
        self._names = count()
        self._tasks: set[asyncio.Task[None]] = set()

    def slot_of(self, worker: str) -> Slot | None:
        """Return the model whose worker that is; None once it was taken away."""
        return self._slots.get(berth_of(worker))

    def load(self, slot: Slot, stage: str = "starting") -> None:
        """Start a worker for a model that has none."""
        berth = f"worker-{next(self._names)}"
        slot.begin(berth, stage)
        self._slots[berth] = slot
        self._fleet.start(berth, slot.settings)

    def send(self, slot: Slot, command: Command) -> None:
        """Send a command to a model's worker that waits for room."""
        if slot.asking is not None:
            self._fleet.send(slot.asking, command)

    def clear(
        self, slot: Slot, state: InstanceState, stage: str, failure: Failure | None = None
    ) -> asyncio.Task[None]:
        """Take a model's worker away, if it has one; the task is done when its memory is free."""
        self._roster.retire(slot.uid)
        berth = slot.leave(state, stage, failure)
        self._slots.pop(berth or "", None)
        return self.spawn(self._end(berth))

    async def _end(self, berth: str | None) -> None:
        if berth is not None:
            await self._fleet.end(berth)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have something done; `close` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("something begun for a model failed", exc_info=task.exception())

    async def close(self) -> None:
        """Forget all workers, which the fleet is about to stop, and finish what was begun."""
        self._slots.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)
