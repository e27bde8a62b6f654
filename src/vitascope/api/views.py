"""What the store and the scheduler say of a job, read together in one of the api's threads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vitascope.api.services import Services
from vitascope.errors import NotFound, VideoNotFound
from vitascope.jobs.job import TERMINAL, Job, State
from vitascope.jobs.store import Order

_ID = re.compile(r"[\w-]{1,64}", re.ASCII)  # nothing else is asked for: not every database takes every text


@dataclass(frozen=True, slots=True)
class View:
    """A job, how many run before it (None unless queued), and seconds until it is done (None if unknown)."""

    job: Job
    queue_position: int | None = None
    eta_s: float | None = None


def view(services: Services, job: Job) -> View:
    """Add position and ETA to a job; blocking."""
    if job.state in TERMINAL:
        return View(job)
    position = services.store.queue_position(job.id) if job.state is State.QUEUED else None
    return View(job, position, services.scheduling.eta_s(job))


def find(services: Services, job_id: str) -> View:
    """Return one job; blocking. Raises `VideoNotFound`, also for one whose deletion was asked for."""
    try:
        if _ID.fullmatch(job_id):
            job = services.store.get(job_id)
            if not job.delete_requested:
                return view(services, job)
    except NotFound:
        pass  # answered below, in the words of the dialect; a job may also vanish between the two reads
    raise VideoNotFound(f"Video with id '{job_id[:80]}' not found.", param="video_id")


def page(services: Services, after: str | None, limit: int, order: Order) -> tuple[Sequence[View], bool]:
    """Return one page of jobs, and whether more follow; blocking. None is empty while more follow."""
    if after is not None and not _ID.fullmatch(after):
        return [], False
    jobs, more = services.store.page(after=after, limit=limit, order=order)
    shown = [view(services, job) for job in jobs if not job.delete_requested]
    if more and not shown:  # all of them are being deleted; who pages on needs a last one
        return page(services, jobs[-1].id, limit, order)
    return shown, more
