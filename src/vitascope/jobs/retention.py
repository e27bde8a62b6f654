"""The sweeper: removes clips whose time has come, rows of deleted jobs and files that no job knows."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from vitascope.errors import IllegalTransition, NotFound
from vitascope.jobs.store import Store

ORPHAN_LOOK_S = 600.0  # between two looks for orphans, for which all rows are read
ORPHAN_AGE_S = 3600.0  # a file that no job knows may belong to one that is just being submitted or finished

log = logging.getLogger(__name__)


class Files(Protocol):
    """What the sweeper asks of the artifact store."""

    def delete(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""

    def keys(self) -> Iterable[str]:
        """Name all files."""

    def remove_stale(self, age_s: float = ...) -> None:
        """Remove what writers left behind that died before they were done, untouched for so long."""


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
        self._looked_at = -math.inf  # for orphans
        self._strays: dict[str, float] = {}  # files that no job knew, and when that was first seen

    def sweep(self) -> Sweep:
        """Remove all whose time has come; blocking, for a thread of its own."""
        now = self._clock()
        done = Sweep(self._expire(now), self._purge(now), self._remove_orphans(now))
        if done != Sweep(0, 0, 0):
            log.info("swept %d expired, %d deleted, %d orphans", done.expired, done.purged, done.orphans)
        return done

    def drop_unheard(self) -> int:
        """Delete every job whose caller waited on the line, and half-written files; return how many jobs.

        For a server that starts on a store of its own: callers and workers of the one before it are gone.
        """
        self._files.remove_stale(0.0)
        unheard = self._store.waited_for()
        for job in unheard:
            for file in job.files:
                self._files.delete(file.key)
            with suppress(NotFound):
                self._store.delete(job.id, self._clock())
        if unheard:
            log.info("dropped %d jobs that nobody waits for any more", len(unheard))
        return len(unheard)

    def _expire(self, now: float) -> int:
        jobs = self._store.expired(now)
        for job in jobs:
            for file in job.files:
                self._files.delete(file.key)
            with suppress(NotFound, IllegalTransition):  # a caller deleted it meanwhile
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
        if self._looked_at <= now < self._looked_at + ORPHAN_LOOK_S:
            return 0
        self._looked_at = now
        self._files.remove_stale()
        there = set(self._files.keys())
        # Asked after the listing: what a job took into use in between is in this set.
        unknown = there - self._store.keys_in_use()
        self._strays = {key: self._strays.get(key, now) for key in unknown}
        orphans = [key for key, since in self._strays.items() if since <= now - ORPHAN_AGE_S]
        for key in orphans:
            self._files.delete(key)
        return len(orphans)
