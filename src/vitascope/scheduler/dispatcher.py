"""The dispatcher acts: claims what the policy paired, tells workers, and writes down what they report.

The store owns what is true; a report under an old token changes nothing there, and its files are removed.
Blocking calls run in threads of the dispatcher's own; everything else happens on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from vitascope.card import ModelCard
from vitascope.errors import IllegalTransition, NotFound, StaleClaim, WorkerLost
from vitascope.jobs.job import Failure, Job, State, Tally
from vitascope.jobs.moves import percent
from vitascope.jobs.store import Store
from vitascope.scheduler.fleet import Lost, News
from vitascope.scheduler.policy import assign
from vitascope.scheduler.previews import Listener, Previews
from vitascope.scheduler.roster import Held, Roster
from vitascope.wire import (
    Cancel,
    Cancelled,
    Checkpointed,
    Command,
    Event,
    Failed,
    Finished,
    Generate,
    LoadFailed,
    Parked,
    Preview,
    Progress,
    Ready,
    Started,
    WatchPreview,
)

PROGRESS_INTERVAL_S = 0.1  # between two writes of the same job's progress within a stage
LOOK_AGAIN_S = 5.0  # even if nobody woke us: another process may have written to the store
REFUSED = (StaleClaim, IllegalTransition, NotFound)

P = ParamSpec("P")
T = TypeVar("T")
Report = Started | Progress | Checkpointed | Finished | Failed | Cancelled | Parked

log = logging.getLogger(__name__)


class Workers(Protocol):
    """What the dispatcher needs of the fleet."""

    news: asyncio.Queue[News]

    def send(self, worker: str, command: Command) -> None:
        """Send a command; a worker that is gone meanwhile is no error."""


class Files(Protocol):
    """What the dispatcher needs of the artifact store."""

    def delete(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""


class Dispatcher:
    """One server's dispatcher. `run` it; `stop_intake` before the fleet is stopped, `drain` after."""

    def __init__(
        self,
        store: Store,
        files: Files,
        workers: Workers,
        *,
        max_attempts: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._files = files
        self._workers = workers
        self._max_attempts = max_attempts
        self._clock = clock
        self._roster = Roster()
        self._previews = Previews(self._watch)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="dispatcher")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look = asyncio.Event()
        self._dirty = asyncio.Event()
        self._stopping = False
        self.load_failure: LoadFailed | None = None
        self.hopeless = asyncio.Event()  # no model was ever loaded, and loading it failed

    # ---- what the api asks

    def ready(self) -> bool:
        """Whether a worker has its model loaded and takes jobs now."""
        return self._roster.ready and not self._stopping

    def trouble(self) -> str | None:
        """Why no worker is ready, as far as it is known; safe to show."""
        return None if self.load_failure is None or self._roster.ready else self.load_failure.message

    def cards(self) -> Sequence[ModelCard]:
        """Return the cards of the served models, the default one first; kept while a worker restarts."""
        return self._roster.cards

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
            log.info("%s goes on from step %d", back.id, back.claim.resume_step)

    async def run(self) -> None:
        """Dispatch until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._hand_out())
            tasks.create_task(self._write_progress())

    def stop_intake(self) -> None:
        """Start no more jobs; what workers give back or lose from now on is not held against the jobs."""
        self._stopping = True

    async def drain(self) -> None:
        """Return once all that the workers said is written down."""
        await self._workers.news.join()

    def close(self) -> None:
        """End the dispatcher's threads; after `run` was cancelled."""
        self._pool.shutdown(wait=True)

    # ---- handing out

    async def _hand_out(self) -> None:
        while True:
            self._look.clear()
            waiting = await self._off(self._store.waiting)
            self._roster.line_up(waiting)
            await self._forward_cancels()
            if not self._stopping:
                for job, worker in assign(waiting, self._roster.views()):
                    await self._start(job, worker.name)
            await self._nudge()

    async def _nudge(self) -> None:
        # Not `wait_for`: Python 3.11's loses a cancellation that comes together with what it waits for.
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._look.wait()

    async def _start(self, job: Job, worker: str) -> None:
        try:
            claimed = await self._off(self._store.claim, job.id, worker, self._clock())
        except REFUSED:
            return  # cancelled or deleted since we looked
        held = self._roster.held[job.id] = Held(claimed, worker)
        if not self._roster.serves(worker):  # lost while we claimed
            await self._requeue(held, forgive=True)
            return
        command = Generate(
            job_id=job.id,
            token=claimed.claim.token,
            request=claimed.request,
            resume_key=claimed.claim.resume_key,
            resume_step=claimed.claim.resume_step,
        )
        self._workers.send(worker, command)
        if self._previews.wanted(job.id):
            self._watch(job.id, True)
        self._look.set()  # the line is shorter now

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
                log.info("%s serves %s", worker, event.card.name)
                self.load_failure = None
                self._roster.add_worker(worker, event.card)
                self._look.set()
            case LoadFailed():
                log.error("%s cannot load its model: %s", worker, event.message)
                self.load_failure = event
                if not self._roster.cards:
                    self.hopeless.set()
            case Lost():
                self._note_early_end(worker, event)
                await self._lose(worker)
            case Preview():
                self._previews.deliver(event)
            case _:
                await self._take(event)

    def _note_early_end(self, worker: str, lost: Lost) -> None:
        if self.load_failure is None and not self._stopping and not self._roster.serves(worker):
            message = f"The worker ended with status {lost.status} while it loaded its model; see the log."
            self.load_failure = LoadFailed(code=WorkerLost.code, message=message)

    async def _take(self, event: Report) -> None:
        """Write down a report, unless it is about a claim that is over."""
        held = self._roster.held.get(event.job_id)
        try:
            if held is None or held.token != event.token:
                raise StaleClaim(f"nobody holds {event.job_id} under {event.token}")
            await self._report(held, event)
        except REFUSED as refusal:
            log.warning("%s is refused: %s", type(event).__name__, refusal)
            await self._remove(_keys(event))
            if held is not None and held.token == event.token and not isinstance(event, Started | Progress):
                self._release(held)

    async def _report(self, held: Held, event: Report) -> None:
        match event:
            case Started():
                held.step = held.first_step = event.step
            case Progress():
                await self._advance(held, event)
            case Checkpointed():
                await self._checkpoint(held, event.key, event.step)
            case Finished():
                await self._finish(held, event)
            case Failed():
                await self._fail(held, event)
            case Cancelled():
                await self._flush(held)
                await self._end(held, self._store.cancelled, held.job.id, held.token, self._clock())
            case Parked():
                if event.key is not None:
                    await self._checkpoint(held, event.key, event.step)
                await self._requeue(held, forgive=True)

    async def _advance(self, held: Held, event: Progress) -> None:
        if event.stage != held.stage:
            await self._flush(held)  # the last of a stage is always written
            self._look.set()  # the device may be free for the next job
        self._roster.advance(held, event)
        held.pending = Tally(
            stage=event.stage,
            step=event.step,
            num_steps=event.num_steps,
            eta_s=event.eta_s if event.eta_s is not None else self._roster.eta_s(held.job),
            percent=percent(event.step, event.num_steps),
        )
        self._dirty.set()

    async def _checkpoint(self, held: Held, key: str, step: int) -> None:
        replaced = await self._off(self._store.checkpoint, held.job.id, held.token, key, step)
        if replaced is not None:
            await self._remove([replaced])

    async def _finish(self, held: Held, event: Finished) -> None:
        await self._flush(held)
        steps = held.job.request.num_inference_steps - held.first_step
        self._roster.costs.observe(held.job.request, event.stats, steps)
        job_id, token = held.job.id, held.token
        await self._end(held, self._store.succeed, job_id, token, event.files, event.stats, self._clock())

    async def _fail(self, held: Held, event: Failed) -> None:
        await self._flush(held)
        if event.retryable and held.job.claim.attempts < self._max_attempts:
            await self._requeue(held, forgive=False)
            return
        failure = Failure(code=event.code, message=event.message)
        fail = partial(self._store.fail, held.job.id, failure, self._clock(), token=held.token)
        await self._end(held, fail)

    async def _lose(self, worker: str) -> None:
        """Give what a lost worker held to the next one, or fail it if that happened too often."""
        for held in self._roster.remove_worker(worker):
            await self._flush(held)
            try:
                if self._stopping or held.job.claim.attempts < self._max_attempts:
                    await self._requeue(held, forgive=self._stopping)
                else:
                    await self._give_up(held)
            except REFUSED as refusal:
                log.warning("%s was lost by %s: %s", held.job.id, worker, refusal)
                self._release(held)

    async def _give_up(self, held: Held) -> None:
        message = f"The worker was lost {held.job.claim.attempts} times while it made this clip."
        failure = Failure(code=WorkerLost.code, message=message)
        await self._end(
            held, partial(self._store.fail, held.job.id, failure, self._clock(), token=held.token)
        )

    async def _requeue(self, held: Held, *, forgive: bool) -> None:
        await self._flush(held)
        job = await self._off(self._store.requeue, held.job.id, held.token, self._clock(), forgive=forgive)
        self._release(held)
        if job.state is not State.QUEUED:
            await self._clean_up(job)

    async def _end(self, held: Held, move: Callable[P, Job], *args: P.args, **kwargs: P.kwargs) -> None:
        """Make the last move of a job and remove the files that nobody needs any more."""
        job = await self._off(move, *args, **kwargs)
        self._release(held)
        await self._clean_up(job)

    async def _clean_up(self, job: Job) -> None:
        keys = [job.claim.resume_key] if job.claim.resume_key else []
        if job.state is State.DELETED:
            keys += [file.key for file in job.files]
        await self._remove(keys)

    def _release(self, held: Held) -> None:
        if self._roster.held.get(held.job.id) is held:
            del self._roster.held[held.job.id]
        self._look.set()

    # ---- writing

    async def _write_progress(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            for held in list(self._roster.held.values()):
                await self._flush(held)
            await asyncio.sleep(PROGRESS_INTERVAL_S)

    async def _flush(self, held: Held) -> None:
        async with held.writing:
            tally, held.pending = held.pending, None
            if tally is None:
                return
            try:
                await self._off(self._store.progress, held.job.id, held.token, tally)
            except REFUSED as refusal:
                log.debug("progress of %s is refused: %s", held.job.id, refusal)

    async def _remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._off(self._files.delete, key)

    async def _off(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(call, *args, **kwargs))


def _keys(event: Report) -> list[str]:
    """Name the files that a report brought."""
    match event:
        case Finished():
            return [file.key for file in event.files]
        case Checkpointed():
            return [event.key]
        case Parked():
            return [event.key] if event.key is not None else []
        case _:
            return []
