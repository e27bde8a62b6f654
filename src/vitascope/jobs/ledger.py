"""The part that all stores share: each change is one function of `moves`, applied atomically."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from vitascope.jobs import moves
from vitascope.jobs.job import Failure, Job, State, Tally
from vitascope.wire import Stats, StoredFile

Change = Callable[[Job], Job]
OnChange = Callable[[str], None]
LIVE = frozenset({State.QUEUED, State.RUNNING})
NEEDY = LIVE | {State.SUCCEEDED}  # the states of jobs that need files; of any other nothing can be made again


def ignore_change(job_id: str) -> None:
    """Tell nobody."""


class Ledger(ABC):
    """Half of a `Store`: every change. The other half, reading and swapping rows, is the implementation's.

    `retention_s` is how long a finished job's files are kept (None: for ever); `on_change` is called with the
    id after each change, from the thread that made it.
    """

    def __init__(self, *, retention_s: float | None = None, on_change: OnChange = ignore_change) -> None:
        self._retention_s = retention_s
        self._on_change = on_change

    @abstractmethod
    def _change(self, job_id: str, change: Change, *, durable: bool = True) -> tuple[Job, Job]:
        """Apply `change` to a job atomically; return the job before and after. Raises `NotFound`."""

    def claim(self, job_id: str, worker: str, now: float) -> Job:
        """See `Store.claim`."""
        return self._apply(job_id, partial(moves.claim, worker=worker, now=now))

    def progress(self, job_id: str, token: int, tally: Tally) -> None:
        """See `Store.progress`."""
        self._apply(job_id, partial(moves.progress, token=token, tally=tally), durable=False)

    def warn(self, job_id: str, token: int, warnings: Sequence[str]) -> None:
        """See `Store.warn`."""
        self._apply(job_id, partial(moves.warn, token=token, warnings=warnings))

    def checkpoint(self, job_id: str, token: int, key: str, step: int) -> str | None:
        """See `Store.checkpoint`."""
        before, after = self._change(job_id, partial(moves.checkpoint, token=token, key=key, step=step))
        if after.claim.resume_key != key:
            return key
        return before.claim.resume_key if before.claim.resume_key != key else None

    def store_output(self, job_id: str, token: int, files: Sequence[StoredFile]) -> str | None:
        """See `Store.store_output`."""
        before, after = self._change(job_id, partial(moves.store_output, token=token, files=files))
        self._tell(before, after)
        return before.claim.resume_key

    def succeed(self, job_id: str, token: int, files: Sequence[StoredFile], stats: Stats, now: float) -> Job:
        """See `Store.succeed`."""
        expires_at = self._expiry(now)
        change = partial(moves.succeed, token=token, files=files, stats=stats, expires_at=expires_at)
        return self._apply(job_id, change, now=now)

    def fail(self, job_id: str, failure: Failure, now: float, *, token: int | None = None) -> Job:
        """See `Store.fail`."""
        return self._apply(job_id, partial(moves.fail, failure=failure, token=token), now=now)

    def requeue(self, job_id: str, token: int, now: float, *, forgive: bool = False) -> Job:
        """See `Store.requeue`."""
        return self._apply(job_id, partial(moves.requeue, token=token, forgive=forgive), now=now)

    def request_cancel(self, job_id: str, now: float) -> Job:
        """See `Store.request_cancel`."""
        return self._apply(job_id, moves.request_cancel, now=now)

    def cancelled(self, job_id: str, token: int, now: float) -> Job:
        """See `Store.cancelled`."""
        return self._apply(job_id, partial(moves.cancel, token=token), now=now)

    def delete(self, job_id: str, now: float) -> Job:
        """See `Store.delete`."""
        before, after = self._change(job_id, lambda job: moves.settle(moves.delete(job), now))
        self._tell(before, after)
        return before

    def keep(self, job_id: str, now: float) -> Job:
        """See `Store.keep`."""
        return self._apply(job_id, partial(moves.keep, expires_at=self._expiry(now)))

    def expire(self, job_id: str) -> Job:
        """See `Store.expire`."""
        return self._apply(job_id, moves.expire)

    def _expiry(self, now: float) -> float | None:
        return None if self._retention_s is None else now + self._retention_s

    def _apply(self, job_id: str, change: Change, *, now: float | None = None, durable: bool = True) -> Job:
        settled = change if now is None else lambda job: moves.settle(change(job), now)
        before, after = self._change(job_id, settled, durable=durable)
        self._tell(before, after)
        return after

    def _tell(self, before: Job, after: Job) -> None:
        if after != before:
            self._on_change(after.id)


def keys_of(jobs: Iterable[Job]) -> set[str]:
    """Collect the artifact keys that these jobs need.

    A checkpoint is needed only while its job may go on from it, and outputs of a job that did not make all
    of them, or the pictures that it was to be made from, no longer than that.
    """
    keys: set[str | None] = set()
    for job in jobs:
        if job.state not in NEEDY:
            continue
        keys.update(job.request.input_keys)
        keys |= {file.key for file in job.files}
        if job.state in LIVE:
            keys.add(job.claim.resume_key)
    return {key for key in keys if key is not None}
