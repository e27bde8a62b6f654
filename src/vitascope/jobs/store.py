"""The store: what is true about every job. A narrow protocol, implemented in memory (tests) and in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from vitascope.jobs.job import Failure, Job, Tally
from vitascope.wire import Stats, StoredFile

Order = Literal["asc", "desc"]


class Store(Protocol):
    """Thread-safe and synchronous; every change of state is durable when the call returns.

    Calls that carry a `token` raise `StaleClaim` and change nothing if the job was claimed anew since. A
    missing or deleted id raises `NotFound`; a move that the table forbids raises `IllegalTransition`.
    """

    def submit(self, job: Job) -> Job:
        """Insert a queued job; return it with its `sequence`.

        If a job was submitted under the same idempotency key, return that one and insert nothing.
        """

    def repeated(self, key: str) -> Job | None:
        """Return the job that was submitted under an idempotency key; None once it is deleted or expired."""

    def get(self, job_id: str) -> Job:
        """Return one job."""

    def page(self, *, after: str | None, limit: int, order: Order) -> tuple[Sequence[Job], bool]:
        """Return at most `limit` jobs beyond the id `after` (unknown: none), and whether more follow.

        A job that was deleted a short while ago is never in a page, but still marks a place for `after`, so
        that a caller may delete what a page showed and ask for the next one.
        """

    def waiting(self) -> Sequence[Job]:
        """Return the queued jobs, oldest first."""

    def num_waiting(self) -> int:
        """Return how many jobs are queued."""

    def running(self) -> Sequence[Job]:
        """Return the running jobs, oldest first."""

    def queue_position(self, job_id: str) -> int | None:
        """Return how many queued jobs stand before this one (0: it is next); None if it is not queued."""

    def claim(self, job_id: str, worker: str, now: float) -> Job:
        """Give a queued job to a worker: running, a new token, one more attempt."""

    def progress(self, job_id: str, token: int, tally: Tally) -> None:
        """Record how far a running job is; the percentage never falls. A power cut may undo it."""

    def warn(self, job_id: str, token: int, warnings: Sequence[str]) -> None:
        """Add to what a running job's caller is told; a warning that is there already is not added again."""

    def checkpoint(self, job_id: str, token: int, key: str, step: int) -> str | None:
        """Record the newest checkpoint; return the key whose file may go: the one it replaces.

        One that comes after its output was stored is not recorded, and its own key is returned.
        """

    def store_output(self, job_id: str, token: int, files: Sequence[StoredFile]) -> str | None:
        """Record the files of a running job's next output; return the key of its checkpoint, which may go."""

    def succeed(self, job_id: str, token: int, files: Sequence[StoredFile], stats: Stats, now: float) -> Job:
        """Finish a job with the files of its last output, its only one most of the time."""

    def fail(self, job_id: str, failure: Failure, now: float, *, token: int | None = None) -> Job:
        """End a job with an error; without a token also a queued one."""

    def requeue(self, job_id: str, token: int, now: float, *, forgive: bool = False) -> Job:
        """Put a running job back in line at its old place; its checkpoint is kept.

        `forgive` gives the attempt back: the job was not to blame. A job whose cancel was requested ends
        cancelled.
        """

    def request_cancel(self, job_id: str, now: float) -> Job:
        """Cancel a queued job at once; mark a running one to be stopped; leave a finished one alone."""

    def cancelled(self, job_id: str, token: int, now: float) -> Job:
        """Record that the device is free of a running job."""

    def delete(self, job_id: str, now: float) -> Job:
        """Delete a finished job; a queued one is cancelled and deleted; a running one is marked for both.

        Returns the job as it stood, so that the caller can remove its files.
        """

    def keep(self, job_id: str, now: float) -> Job:
        """Record that a finished job stays, although its caller waited; retention counts from `now`."""

    def waited_for(self) -> Sequence[Job]:
        """Return the jobs, in whatever state, whose callers wait on the line; oldest first."""

    def expired(self, now: float) -> Sequence[Job]:
        """Return the finished jobs whose `expires_at` has passed and that still have files."""

    def expire(self, job_id: str) -> Job:
        """Record that a job's files were removed."""

    def gone(self, now: float) -> Sequence[Job]:
        """Return the deleted jobs whose rows may go too."""

    def purge(self, job_id: str) -> None:
        """Forget a deleted job's row; any other is left alone."""

    def keys_in_use(self) -> set[str]:
        """Return every key of the artifact store that a job still needs: files, checkpoints, pictures."""

    def close(self) -> None:
        """Release connections; the store is of no more use."""
