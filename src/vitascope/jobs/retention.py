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
# A file that no job knows may belong to one that is just being submitted or finished. Looks are counted, not
# time: while the database is away, and what workers report waits for it, nobody looks.
ORPHAN_LOOKS = 7

log = logging.getLogger(__name__)


class Files(Protocol):
    """What the sweeper asks of the artifact store."""

    def delete(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""

    def keys(self) -> Iterable[str]:
        """Name all files."""

    def remove_stray(self, key: str) -> bool:
        """Remove a file that no job knows, unless its key was given out lately; return whether it is gone."""

    def remove_abandoned(self) -> None:
        """Remove what writers left behind that died before they were done."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """How much one sweep removed."""

    expired: int
    purged: int
    orphans: int


class Sweeper:
    """Retention of one store. Files go before rows, so that a crash between the two leaves nothing behind.

    `clock` is the time of day, by which jobs expire; `ticks` is the monotonic clock.
    """

    def __init__(
        self,
        store: Store,
        files: Files,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._ticks = ticks
        self._look_at = -math.inf  # for orphans, by the monotonic clock
        self._strays: dict[str, int] = {}  # files that no job knew, and at how many looks in a row

    def sweep(self) -> Sweep:
        """Remove all whose time has come; blocking, for a thread of its own."""
        now = self._clock()
        done = Sweep(self._expire(now), self._purge(now), self._remove_orphans())
        if done != Sweep(0, 0, 0):
            log.info("swept %d expired, %d deleted, %d orphans", done.expired, done.purged, done.orphans)
        return done

    def drop_unheard(self) -> int:
        """Delete every job whose caller waited on the line, and half-written files; return how many jobs.

        For a server that starts on a store of its own: callers and workers of the one before it are gone.
        """
        self._files.remove_abandoned()
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

    def _remove_orphans(self) -> int:
        if self._ticks() < self._look_at:
            return 0
        self._files.remove_abandoned()
        there = set(self._files.keys())
        # Asked after the listing: what a job took into use in between is in this set.
        unknown = there - self._store.keys_in_use()
        self._look_at = self._ticks() + ORPHAN_LOOK_S
        self._strays = {key: self._strays.get(key, 0) + 1 for key in unknown}
        old = [key for key, looks in self._strays.items() if looks >= ORPHAN_LOOKS]
        # One of them may have been uploaded again by now, its job not yet written: the files know.
        gone = [key for key in old if self._files.remove_stray(key)]
        for key in gone:
            del self._strays[key]
        return len(gone)
