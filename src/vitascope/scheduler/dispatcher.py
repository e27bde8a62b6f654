"""The dispatcher: claims what the policy paired, tells the workers, and hears what they say.

It acts without deciding, and owns nothing but the order of things. Blocking calls run in threads of its own;
everything else happens on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from vitascope.card import ModelCard
from vitascope.errors import NotFound, StoreUnavailable
from vitascope.jobs.job import Failure, Job, State
from vitascope.jobs.store import Store
from vitascope.scheduler.fleet import Lost, News
from vitascope.scheduler.offload import Offload
from vitascope.scheduler.policy import assign
from vitascope.scheduler.previews import Listener, Previews
from vitascope.scheduler.reports import REFUSED, Files, Reports
from vitascope.scheduler.roster import Held, Roster
from vitascope.wire import (
    Cancel,
    Command,
    Event,
    Generate,
    LoadFailed,
    Loading,
    Measured,
    Preview,
    Ready,
    WatchPreview,
)

NUM_THREADS = 2  # one looks for work, one writes reports down
LOOK_AGAIN_S = 5.0  # even if nobody woke us: another process may have written to the store

log = logging.getLogger(__name__)


class Workers(Protocol):
    """What the dispatcher needs of the fleet."""

    news: asyncio.Queue[News]

    def send(self, worker: str, command: Command) -> None:
        """Send a command; a worker that is gone meanwhile is no error."""


class Models(Protocol):
    """What the dispatcher asks of the launcher, and tells it."""

    on_change: Callable[[], None]

    def ready(self) -> bool:
        """Whether any model takes jobs now."""

    def trouble(self) -> str | None:
        """Why none does; safe to show."""

    def cards(self) -> Sequence[ModelCard]:
        """Return the cards of the served models, the default one first."""

    def hear(self, worker: str, event: Event | Lost) -> None:
        """Take in what a worker says of its loading, or that it is gone."""

    def loaded(self, worker: str, card: ModelCard) -> bool:
        """Take in that a worker has its model loaded; return whether it may have jobs."""

    def knows(self, worker: str) -> bool:
        """Whether a worker's model is still to be served."""

    def fate(self, model: str) -> Failure | None:
        """Say why a job for a model will never run; None while it may."""

    def look(self, waiting: Sequence[Job]) -> Sequence[Job]:
        """See to what jobs wait for; return those that may be handed out now."""


class Dispatcher:
    """One server's dispatcher. `run` it; `stop_intake` before the fleet is stopped, `drain` after."""

    def __init__(
        self,
        store: Store,
        files: Files,
        workers: Workers,
        models: Models,
        roster: Roster,
        *,
        max_attempts: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._workers = workers
        self._models = models
        self._clock = clock
        self._roster = roster
        self._previews = Previews(self._watch)
        self._off = Offload(NUM_THREADS, "dispatcher")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look = asyncio.Event()
        self._reports = Reports(
            store,
            files,
            self._roster,
            self._off,
            max_attempts=max_attempts,
            clock=clock,
            on_room=self._look.set,
        )
        self._stopping = False
        models.on_change = self._look.set

    # ---- what the api asks

    def ready(self) -> bool:
        """Whether a model is loaded and takes jobs now."""
        return self._models.ready() and not self._stopping

    def trouble(self) -> str | None:
        """Why no model takes jobs, as far as it is known; safe to show."""
        return self._models.trouble()

    def cards(self) -> Sequence[ModelCard]:
        """Return the cards of the served models, the default one first; kept while a worker restarts."""
        return self._models.cards()

    def eta_s(self, job: Job) -> float | None:
        """Estimate the seconds until an unfinished job is done, its wait included. From any thread."""
        return self._roster.eta_s(job)

    def wake(self) -> None:
        """Look at the store soon. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._look.set)

    def watch_preview(self, job_id: str, listener: Listener) -> AbstractContextManager[None]:
        """Call `listener` on the event loop with each preview of a job as long as the context lasts."""
        return self._previews.watch(job_id, listener)

    # ---- life

    async def recover(self) -> None:
        """Put back in line what a dead server left running; the server's end is not held against the jobs."""
        self._loop = asyncio.get_running_loop()
        for job in await self._off(self._store.running):
            back = await self._off(self._store.requeue, job.id, job.claim.token, self._clock(), forgive=True)
            if back.state is State.QUEUED:
                log.info("goes on from step %d", back.claim.resume_step, extra={"job_id": back.id})

    async def run(self) -> None:
        """Dispatch until cancelled; as long as the database refuses, wait for it.

        Raises:
            StoreUnavailable: it refuses still after `stop_intake`; the next start finds the jobs.

        """
        self._loop = asyncio.get_running_loop()
        self._off.patient = not self._stopping
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen())
                tasks.create_task(self._hand_out())
                tasks.create_task(self._reports.write_progress())
        except ExceptionGroup as group:
            refused = group.subgroup(StoreUnavailable)
            raise group if refused is None else refused.exceptions[0] from None

    def stop_intake(self) -> None:
        """Start no more jobs; what workers give back or lose from now on is not held against the jobs."""
        self._stopping = True
        self._off.patient = False

    async def drain(self) -> None:
        """Return once all that the workers said is written down."""
        await self._workers.news.join()

    def close(self) -> None:
        """End the dispatcher's threads; after `run` was cancelled."""
        self._off.close()

    # ---- handing out

    async def _hand_out(self) -> None:
        while True:
            self._look.clear()
            waiting = await self._off(self._store.waiting)
            self._roster.line_up(waiting)
            await self._forward_cancels()
            if not self._stopping:
                await self._turn_away(waiting)
                for job, worker in assign(self._models.look(waiting), self._roster.views()):
                    await self._start(job, worker.name)
            await self._nudge()

    async def _nudge(self) -> None:
        # Not `wait_for`: Python 3.11's loses a cancellation that comes together with what it waits for.
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._look.wait()

    async def _turn_away(self, waiting: Sequence[Job]) -> None:
        """Fail the jobs whose model is gone: nobody should wait for ever."""
        for job in waiting:
            failure = self._models.fate(job.request.model)
            if failure is not None:
                with suppress(*REFUSED):  # cancelled or deleted since we looked
                    await self._reports.turn_away(job, failure)

    async def _start(self, job: Job, worker: str) -> None:
        claimed = await self._claim(job, worker)
        if claimed is None:
            return
        self._roster.hold(Held(claimed, worker))
        if not self._roster.serves(worker):  # lost while we claimed
            await self._reports.lose(worker, forgive=True)
            return
        command = Generate(
            job_id=job.id,
            token=claimed.claim.token,
            request=claimed.request,
            output=claimed.num_stored,
            resume_key=claimed.claim.resume_key,
            resume_step=claimed.claim.resume_step,
        )
        self._workers.send(worker, command)
        log.info("given to %s, attempt %d", worker, claimed.claim.attempts, extra={"job_id": job.id})
        if self._previews.wanted(job.id):
            self._watch(job.id, True)
        self._look.set()  # the line is shorter now

    async def _claim(self, job: Job, worker: str) -> Job | None:
        """Claim a job for a worker; None if it was cancelled or deleted since we looked."""
        with suppress(*REFUSED):
            return await self._off(self._store.claim, job.id, worker, self._clock())
        with suppress(NotFound):  # else it may be our own claim, if its answer was lost
            there = await self._off(self._store.get, job.id)
            return there if there.state is State.RUNNING and there.claim.worker == worker else None
        return None

    async def _forward_cancels(self) -> None:
        if not self._roster.held:
            return
        for job in await self._off(self._store.running):
            held = self._roster.held.get(job.id)
            if job.cancel_requested and held is not None and not held.cancel_sent:
                held.cancel_sent = True
                self._workers.send(held.worker, Cancel(job_id=job.id, token=held.token))

    def _watch(self, job_id: str, wanted: bool) -> None:
        held = self._roster.held.get(job_id)
        if held is not None:
            self._workers.send(held.worker, WatchPreview(job_id=job_id, enabled=wanted))

    # ---- taking in

    async def _listen(self) -> None:
        while True:
            worker, event = await self._workers.news.get()
            await self._hear(worker, event)
            self._workers.news.task_done()

    async def _hear(self, worker: str, event: Event | Lost) -> None:
        match event:
            case Ready():
                if self._models.loaded(worker, event.card):
                    self._roster.add_worker(worker, event.card)
                self._look.set()
            case Loading() | Measured() | LoadFailed():
                self._models.hear(worker, event)
            case Lost():
                forgive = self._stopping or not self._models.knows(worker)
                self._models.hear(worker, event)
                await self._reports.lose(worker, forgive=forgive, hung_s=event.hung_s)
            case Preview():
                self._previews.deliver(event)
            case _:
                await self._reports.take(event)
