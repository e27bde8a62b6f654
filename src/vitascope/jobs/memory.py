"""The in-memory twin of the SQL store, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from vitascope.errors import NotFound
from vitascope.jobs.job import Job, State
from vitascope.jobs.ledger import Change, Ledger, OnChange, ignore_change, keys_of
from vitascope.jobs.store import Order


class MemoryStore(Ledger):
    """A `Store` that lives as long as its process."""

    def __init__(self, *, retention_s: float | None = None, on_change: OnChange = ignore_change) -> None:
        super().__init__(retention_s=retention_s, on_change=on_change)
        self._jobs: dict[str, Job] = {}  # in order of submission, which is order of `sequence`
        self._last_sequence = 0
        self._lock = threading.Lock()

    def submit(self, job: Job) -> Job:
        """See `Store.submit`."""
        with self._lock:
            earlier = None if job.idempotency is None else self._submitted_under(job.idempotency.key)
            if earlier is not None:
                return earlier
            self._last_sequence += 1
            stored = replace(job, sequence=self._last_sequence)
            self._jobs[job.id] = stored
        self._on_change(job.id)
        return stored

    def repeated(self, key: str) -> Job | None:
        """See `Store.repeated`."""
        with self._lock:
            return self._submitted_under(key)

    def get(self, job_id: str) -> Job:
        """See `Store.get`."""
        with self._lock:
            return self._present(job_id)

    def page(self, *, after: str | None, limit: int, order: Order) -> tuple[Sequence[Job], bool]:
        """See `Store.page`."""
        with self._lock:
            jobs = list(self._jobs.values())
        if order == "desc":
            jobs.reverse()
        if after is not None:
            place = next((i for i, job in enumerate(jobs) if job.id == after), len(jobs))
            jobs = jobs[place + 1 :]
        jobs = [job for job in jobs if job.state is not State.DELETED]
        return jobs[:limit], len(jobs) > limit

    def waiting(self) -> Sequence[Job]:
        """See `Store.waiting`."""
        return self._select(lambda job: job.state is State.QUEUED)

    def num_waiting(self) -> int:
        """See `Store.num_waiting`."""
        return len(self.waiting())

    def running(self) -> Sequence[Job]:
        """See `Store.running`."""
        return self._select(lambda job: job.state is State.RUNNING)

    def queue_position(self, job_id: str) -> int | None:
        """See `Store.queue_position`."""
        ids = [job.id for job in self.waiting()]
        self.get(job_id)
        return ids.index(job_id) if job_id in ids else None

    def waited_for(self) -> Sequence[Job]:
        """See `Store.waited_for`."""
        return self._select(lambda job: job.waited_for and job.state is not State.DELETED)

    def expired(self, now: float) -> Sequence[Job]:
        """See `Store.expired`."""
        return self._select(
            lambda job: job.state is State.SUCCEEDED and job.expires_at is not None and job.expires_at <= now
        )

    def gone(self, now: float) -> Sequence[Job]:
        """See `Store.gone`."""
        return self._select(
            lambda job: job.state is State.DELETED and job.expires_at is not None and job.expires_at <= now
        )

    def purge(self, job_id: str) -> None:
        """See `Store.purge`."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and job.state is State.DELETED:
                del self._jobs[job_id]

    def keys_in_use(self) -> set[str]:
        """See `Store.keys_in_use`."""
        return keys_of(self._select(lambda _: True))

    def close(self) -> None:
        """See `Store.close`."""

    def _change(self, job_id: str, change: Change, *, durable: bool = True) -> tuple[Job, Job]:
        del durable  # nothing here outlives the process
        with self._lock:
            before = self._present(job_id)
            after = self._jobs[job_id] = change(before)
        return before, after

    def _present(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or job.state is State.DELETED:
            raise NotFound(f"There is no job {job_id!r}.")
        return job

    def _submitted_under(self, key: str) -> Job | None:
        jobs = self._jobs.values()
        return next((job for job in jobs if job.idempotency and job.idempotency.key == key), None)

    def _select(self, wanted: Callable[[Job], bool]) -> list[Job]:
        with self._lock:
            return [job for job in self._jobs.values() if wanted(job)]
