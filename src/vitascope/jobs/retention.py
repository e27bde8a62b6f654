"""The sweeper: removes the files of clips whose time has come, rows of deleted jobs, and files that no job knows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from vitascope.jobs.store import Store

ORPHAN_AGE_S = 3600.0  # a younger file may belong to a job that is just being submitted or finished

log = logging.getLogger(__name__)


class Files(Protocol):
    """What the sweeper asks of the artifact store."""

    def delete(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""

    def older_than(self, moment: float) -> Iterable[str]:
        """Name the files last written before a unix time."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """How much one sweep removed."""

    expired: int
    purged: int
    orphans: int


class Sweeper:
    """Retention of one store. Files go before rows, so that a crash between the two leaves nothing behind."""

    def __init__(self, store: Store, files: Files, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._files = files
        self._clock = clock

    def sweep(self) -> Sweep:
        """Remove all whose time has come; blocking, for a thread of its own."""
        now = self._clock()
        done = Sweep(self._expire(now), self._purge(now), self._remove_orphans(now))
        if done != Sweep(0, 0, 0):
            log.info("swept %d expired, %d deleted, %d orphans", done.expired, done.purged, done.orphans)
        return done

    def _expire(self, now: float) -> int:
        jobs = self._store.expired(now)
        for job in jobs:
            for file in job.files:
                self._files.delete(file.key)
            self._store.expire(job.id)
        return len(jobs)

    def _purge(self, now: float) -> int:
        jobs = self._store.gone(now)
        for job in jobs:
            for file in job.files:
                self._files.delete(file.key)
            self._store.purge(job.id)
        return len(jobs)

    def _remove_orphans(self, now: float) -> int:
        old = set(self._files.older_than(now - ORPHAN_AGE_S))
        # Asked after the listing: what a job took into use in between is in this set.
        orphans = old - self._store.keys_in_use() if old else set()
        for key in orphans:
            self._files.delete(key)
        return len(orphans)
