"""What each change does to a job, as pure functions: the job as it stood in, the job as it stands after out.

Every store applies these and nothing else, so that all stores obey one set of rules. A change that the table
or the fencing token forbids raises and so changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitascope.errors import IllegalTransition, StaleClaim
from vitascope.jobs.job import TERMINAL, Claim, Failure, Job, Move, State, Tally
from vitascope.wire import Stats, StoredFile

DELETED_GRACE_S = (
    3600.0  # a deleted row stays that long, so that a listing that was begun before can go on after it
)


def percent(step: int, num_steps: int) -> int:
    """Whole percents of a running job: true to the step, and 100 only once the job has succeeded."""
    return min(99, 100 * step // num_steps) if num_steps > 0 else 0


def claim(job: Job, worker: str, now: float) -> Job:
    """Put a queued job into a worker's hands under a new token."""
    held = replace(job.claim, token=job.claim.token + 1, worker=worker, attempts=job.claim.attempts + 1)
    started = now if job.started_at is None else job.started_at
    return job.moved(Move.START, claim=held, started_at=started, tally=replace(job.tally, stage="start"))


def progress(job: Job, token: int, tally: Tally) -> Job:
    """Record how far a running job is; its percentage never falls, whatever a resumed worker counts."""
    _check_held(job, token)
    reached = max(job.tally.percent, min(tally.percent, 99))
    return replace(job, tally=replace(tally, percent=reached))


def warn(job: Job, token: int, warnings: Sequence[str]) -> Job:
    """Take in what a running job's caller is to be told, each warning once, however often it is made."""
    _check_held(job, token)
    return replace(job, warnings=tuple(dict.fromkeys((*job.warnings, *warnings))))


def checkpoint(job: Job, token: int, key: str, step: int) -> Job:
    """Name the newest checkpoint of a running job, unless it is of an output that is stored by now."""
    _check_held(job, token)
    if job.files and step <= job.stored_steps:
        return job
    return replace(job, claim=replace(job.claim, resume_key=key, resume_step=step))


def store_output(job: Job, token: int, files: Sequence[StoredFile]) -> Job:
    """Take in the files of one of several outputs; its checkpoint is of no more use."""
    _check_held(job, token)
    if set(files) <= set(job.files):
        return job  # written down already, by a call whose answer was lost
    job = replace(job, files=(*job.files, *files))
    return replace(job, claim=replace(job.claim, resume_key=None, resume_step=job.stored_steps))


def succeed(job: Job, token: int, files: Sequence[StoredFile], stats: Stats, expires_at: float | None) -> Job:
    """Finish a running job with the files of its last output; `expires_at` of None keeps them for ever."""
    _check_token(job, token)
    tally = replace(job.tally, stage="done", step=job.tally.num_steps, eta_s=0.0, percent=100)
    if job.waited_for:
        expires_at = None  # whoever waits takes it away, or has it kept
    return job.moved(
        Move.SUCCEED,
        files=(*job.files, *files),
        stats=stats,
        expires_at=expires_at,
        tally=tally,
        claim=_freed(job),
    )


def fail(job: Job, failure: Failure, token: int | None) -> Job:
    """End a job with an error."""
    if token is not None:
        _check_token(job, token)
    return job.moved(Move.FAIL, failure=failure, claim=_freed(job))


def cancel(job: Job, token: int) -> Job:
    """Record that a running job's device is free."""
    _check_token(job, token)
    if job.state is not State.RUNNING:
        raise IllegalTransition(f"a job that is {job.state} holds no device")
    return job.moved(Move.CANCEL, claim=_freed(job))


def requeue(job: Job, token: int, *, forgive: bool) -> Job:
    """Put a running job back at its old place; cancelled instead if that was asked for meanwhile.

    The token moves on at once, so that whatever the old worker still says is refused.
    """
    _check_token(job, token)
    if job.cancel_requested and job.state is State.RUNNING:
        return job.moved(Move.CANCEL, claim=_freed(job))
    back = replace(_freed(job), token=token + 1, attempts=job.claim.attempts - forgive)
    tally = replace(job.tally, stage="queued", step=job.claim.resume_step, eta_s=None)
    return job.moved(Move.REQUEUE, claim=back, tally=tally)


def request_cancel(job: Job) -> Job:
    """Cancel a queued job, mark a running one, leave a finished one alone."""
    if job.state is State.QUEUED:
        return job.moved(Move.CANCEL)
    return replace(job, cancel_requested=True) if job.state is State.RUNNING else job


def delete(job: Job) -> Job:
    """Ask for a job to be gone: at once if it is finished or waits, else as soon as its device is free."""
    return replace(request_cancel(job), delete_requested=True, idempotency=None)


def keep(job: Job, expires_at: float | None) -> Job:
    """Record that a job stays after its caller had the answer; its clip is kept until `expires_at`."""
    if not job.waited_for:
        return job
    return replace(job, waited_for=False, expires_at=expires_at)


def expire(job: Job) -> Job:
    """Record that a finished job's files were removed."""
    return job.moved(Move.EXPIRE, files=(), idempotency=None)


def settle(job: Job, now: float) -> Job:
    """Finish what a change began: stamp the end of a job that ended, delete one that should go."""
    if job.state not in TERMINAL:
        return job
    if job.finished_at is None:
        job = replace(job, finished_at=now)
    if job.delete_requested and job.state is not State.DELETED:
        job = job.moved(Move.DELETE, expires_at=now + DELETED_GRACE_S)
    return job


def _freed(job: Job) -> Claim:
    return replace(job.claim, worker=None)


def _check_token(job: Job, token: int) -> None:
    if token != job.claim.token:
        raise StaleClaim(f"claim {token} of {job.id} is over; the newest is {job.claim.token}")


def _check_held(job: Job, token: int) -> None:
    _check_token(job, token)
    if job.state is not State.RUNNING:
        raise IllegalTransition(f"a job that is {job.state} makes no progress")
