"""What workers report of their jobs, written down: the store is changed, files that nobody needs are removed.

A report under an old token changes nothing in the store, and its files go too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import ParamSpec, Protocol

from vitascope.errors import IllegalTransition, NotFound, StaleClaim, WorkerHung, WorkerLost
from vitascope.jobs.job import Failure, Job, State, Tally
from vitascope.jobs.moves import percent
from vitascope.jobs.store import Store
from vitascope.scheduler.offload import Offload
from vitascope.scheduler.roster import Held, Roster
from vitascope.wire import (
    Cancelled,
    Checkpointed,
    Failed,
    Finished,
    OutputStored,
    Parked,
    Progress,
    Started,
    Warned,
)

PROGRESS_INTERVAL_S = 0.1  # between two writes of the same job's progress within a stage
REFUSED = (StaleClaim, IllegalTransition, NotFound)

P = ParamSpec("P")
Report = Started | Warned | Progress | Checkpointed | OutputStored | Finished | Failed | Cancelled | Parked

log = logging.getLogger(__name__)


class Files(Protocol):
    """What is needed of the artifact store."""

    def delete(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""


class Reports:
    """Takes reports in. `on_room` is called whenever a worker may have become free."""

    def __init__(
        self,
        store: Store,
        files: Files,
        roster: Roster,
        offload: Offload,
        *,
        max_attempts: int,
        clock: Callable[[], float],
        on_room: Callable[[], None],
    ) -> None:
        self._store = store
        self._files = files
        self._roster = roster
        self._off = offload
        self._max_attempts = max_attempts
        self._clock = clock
        self._on_room = on_room
        self._dirty = asyncio.Event()

    async def take(self, event: Report) -> None:
        """Write down a report, unless it is about a claim that is over."""
        held = self._roster.held.get(event.job_id)
        try:
            if held is None or held.token != event.token:
                raise StaleClaim(f"nobody holds {event.job_id} under {event.token}")
            await self._report(held, event)
        except REFUSED as refusal:
            log.warning("%s is refused: %s", type(event).__name__, refusal, extra={"job_id": event.job_id})
            await self._remove_unknown(event)
            if held is not None and held.token == event.token and not isinstance(event, Started | Progress):
                self._release(held)

    async def _report(self, held: Held, event: Report) -> None:
        match event:
            case Started():
                held.step = held.first_step = event.step
            case Warned():
                await self._off(self._store.warn, held.job.id, held.token, event.warnings)
            case Progress():
                await self._advance(held, event)
            case Checkpointed():
                await self._checkpoint(held, event.key, event.step)
            case OutputStored():
                await self._store_output(held, event)
            case Finished():
                await self._finish(held, event)
            case Failed():
                await self._fail(held, event)
            case Cancelled():
                await self._flush(held)
                await self._end(held, self._store.cancelled, held.job.id, held.token, self._clock())
            case Parked():
                await self._park(held, event)

    async def _advance(self, held: Held, event: Progress) -> None:
        if event.stage != held.stage:
            await self._flush(held)  # the last of a stage is always written
            self._on_room()
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

    async def _park(self, held: Held, event: Parked) -> None:
        if event.key is not None:
            await self._checkpoint(held, event.key, event.step)
        await self.requeue(held, forgive=True)

    async def _store_output(self, held: Held, event: OutputStored) -> None:
        no_more_use = await self._off(self._store.store_output, held.job.id, held.token, event.files)
        if no_more_use is not None:
            await self._remove([no_more_use])

    async def _finish(self, held: Held, event: Finished) -> None:
        await self._flush(held)
        steps = held.job.request.all_steps - held.first_step
        self._roster.costs.observe(held.job.request, event.stats, steps)
        job_id, token = held.job.id, held.token
        await self._end(held, self._store.succeed, job_id, token, event.files, event.stats, self._clock())

    async def _fail(self, held: Held, event: Failed) -> None:
        await self._flush(held)
        if event.retryable and held.job.claim.attempts < self._max_attempts:
            await self.requeue(held, forgive=False)
            return
        failure = Failure(code=event.code, message=event.message)
        fail = partial(self._store.fail, held.job.id, failure, self._clock(), token=held.token)
        await self._end(held, fail)

    async def lose(self, worker: str, *, forgive: bool, hung_s: float | None = None) -> None:
        """Put what a lost worker held back in line; unless forgiven, fail it if that was once too often.

        `hung_s` is how long the worker hung, if it was killed for that.
        """
        for held in self._roster.remove_worker(worker):
            await self._flush(held)
            try:
                if forgive or held.job.claim.attempts < self._max_attempts:
                    await self.requeue(held, forgive=forgive)
                else:
                    await self._give_up(held, hung_s)
            except REFUSED as refusal:
                log.warning("lost by %s: %s", worker, refusal, extra={"job_id": held.job.id})
                self._release(held)

    async def _give_up(self, held: Held, hung_s: float | None) -> None:
        failure = _lost(held.job.claim.attempts, hung_s)
        await self._end(
            held, partial(self._store.fail, held.job.id, failure, self._clock(), token=held.token)
        )

    async def turn_away(self, job: Job, failure: Failure) -> None:
        """Fail a job that waits. Raises what the store refuses it with."""
        await self._clean_up(await self._off(self._store.fail, job.id, failure, self._clock()))

    async def requeue(self, held: Held, *, forgive: bool) -> None:
        """Put a held job back in line. Raises what the store refuses it with."""
        await self._flush(held)
        job = await self._off(self._store.requeue, held.job.id, held.token, self._clock(), forgive=forgive)
        self._release(held)
        log.info("given back: %s, at step %d", job.state, job.claim.resume_step, extra={"job_id": job.id})
        if job.state is not State.QUEUED:
            await self._clean_up(job)

    async def _end(self, held: Held, move: Callable[P, Job], *args: P.args, **kwargs: P.kwargs) -> None:
        """Make the last move of a job and remove the files that nobody needs any more."""
        job = await self._off(move, *args, **kwargs)
        code = "" if job.failure is None else f" ({job.failure.code})"
        waited_s = (job.finished_at or job.created_at) - job.created_at
        log.info("%s%s, %.1f s after it came", job.state, code, waited_s, extra={"job_id": job.id})
        self._release(held)
        await self._clean_up(job)

    async def _clean_up(self, job: Job) -> None:
        keys = [job.claim.resume_key] if job.claim.resume_key else []
        if job.state is not State.SUCCEEDED:  # some outputs may be there
            keys += [file.key for file in job.files]
        await self._remove(keys)

    def _release(self, held: Held) -> None:
        self._roster.release(held)
        self._on_room()

    # ---- writing

    async def write_progress(self) -> None:
        """Write how far the held jobs are, for ever; often enough to look at, seldom enough for a disk."""
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
                log.debug("progress is refused: %s", refusal, extra={"job_id": held.job.id})

    async def _remove_unknown(self, event: Report) -> None:
        """Remove the files of a refused report, but for those that the job has: it may come a second time."""
        keys = _keys(event)
        if not keys:
            return
        try:
            job = await self._off(self._store.get, event.job_id)
        except NotFound:
            known = set()
        else:
            known = {job.claim.resume_key, *(file.key for file in job.files)}
        await self._remove([key for key in keys if key not in known])

    async def _remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                await self._off(self._files.delete, key)
            except OSError as error:  # the sweeper comes for it later
                log.warning("a file is not removed: %s", error.strerror)


def _lost(attempts: int, hung_s: float | None) -> Failure:
    """Say why a job failed whose worker was lost too often, the last time because it hung or otherwise."""
    if hung_s is None:
        message = f"The worker was lost {attempts} times while it made this clip."
        return Failure(code=WorkerLost.code, message=message)
    message = (
        f"The worker made no headway for {hung_s:.0f} s and was ended, at the last of {attempts} attempts."
    )
    return Failure(code=WorkerHung.code, message=message)


def _keys(event: Report) -> list[str]:
    """Name the files that a report brought."""
    match event:
        case Finished() | OutputStored():
            return [file.key for file in event.files]
        case Checkpointed():
            return [event.key]
        case Parked():
            return [event.key] if event.key is not None else []
        case _:
            return []
