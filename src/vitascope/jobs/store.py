"""The store: what is true about every job. A narrow protocol, implemented in memory (tests) and in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from vitascope.jobs.job import Failure, Job, Tally
from vitascope.wire import Stats, StoredFile


class Store(Protocol):
    """Thread-safe and synchronous; every change is durable when the call returns.

    Calls that carry a `token` raise `StaleClaim` and change nothing if the job was claimed anew since. A
    missing or deleted id raises `NotFound`; a move that the table forbids raises `IllegalTransition`.
    """

    def submit(self, job: Job) -> Job:
        """Insert a queued job; return it with its `sequence`."""

    def get(self, job_id: str) -> Job:
        """Return one job."""

    def page(
        self, *, after: str | None, limit: int, order: Literal["asc", "desc"]
    ) -> tuple[Sequence[Job], bool]:
        """Return at most `limit` jobs beyond the id `after`, and whether more follow; none if unknown."""

    def waiting(self) -> Sequence[Job]:
        """Return the queued jobs, oldest first."""

    def running(self) -> Sequence[Job]:
        """Return the running jobs, oldest first."""

    def queue_position(self, job_id: str) -> int | None:
        """Return how many queued jobs stand before this one (0: it is next); None when it is not queued."""

    def claim(self, job_id: str, worker: str, now: float) -> Job:
        """Give a queued job to a worker: running, a new token, one more attempt."""

    def progress(self, job_id: str, token: int, tally: Tally) -> None:
        """Record how far a running job is; the percentage never falls."""

    def checkpoint(self, job_id: str, token: int, key: str, step: int) -> str | None:
        """Record the newest checkpoint; return the key it replaces, whose file may go now."""

    def succeed(self, job_id: str, token: int, files: Sequence[StoredFile], stats: Stats, now: float) -> Job:
        """Finish a job with its files."""

    def fail(self, job_id: str, failure: Failure, now: float, *, token: int | None = None) -> Job:
        """End a job with an error; without a token also a queued one."""

    def requeue(self, job_id: str, token: int) -> Job:
        """Put a running job back in line at its old place; its checkpoint is kept."""

    def request_cancel(self, job_id: str, now: float) -> Job:
        """Cancel a queued job at once; mark a running one for its worker; leave a finished one alone."""

    def cancelled(self, job_id: str, token: int, now: float) -> Job:
        """Record that the device is free of a job whose cancel was requested."""

    def delete(self, job_id: str, now: float) -> Job:
        """Delete a finished job; a queued one is cancelled and deleted; a running one is marked for both.

        Returns the job as it stood, so that the caller can remove its files.
        """

    def expired(self, now: float) -> Sequence[Job]:
        """Return the finished jobs whose `expires_at` has passed and that still have files."""

    def expire(self, job_id: str) -> Job:
        """Record that a job's files were removed."""

    def close(self) -> None:
        """Release connections; the store is of no more use."""
