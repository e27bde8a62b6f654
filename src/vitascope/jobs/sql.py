"""The durable store, on SQLAlchemy Core: SQLite in the data folder by default, PostgreSQL by its URL.

Each change reads a row, asks `moves` what it becomes and swaps it in with one UPDATE that names the version
it read; if another was faster, it looks again. So no transaction spans two statements and no
database-specific lock is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError, ProgrammingError

from vitascope.errors import ConfigurationError, NotFound, StoreUnavailable
from vitascope.jobs.database import SoleUse, connect, shown
from vitascope.jobs.job import Job, State
from vitascope.jobs.launches import SqlLaunches
from vitascope.jobs.ledger import NEEDY, Change, Ledger, OnChange, ignore_change, keys_of
from vitascope.jobs.migrate import upgrade
from vitascope.jobs.schema import from_row, jobs, to_row
from vitascope.jobs.store import Order

ROWS_AT_ONCE = 500  # of all that there are, which may be very many


class SqlStore(Ledger):
    """A `Store` in a database that nobody else may use; brings its schema up to date when opened.

    Raises:
        ConfigurationError: the database cannot be opened, or another server uses it.

    """

    def __init__(
        self, url: str, *, retention_s: float | None = None, on_change: OnChange = ignore_change
    ) -> None:
        super().__init__(retention_s=retention_s, on_change=on_change)
        self._engine = connect(url)
        # Progress is written often and may be lost in a power cut: it need not wait for the disk.
        self._quick = connect(url, durable=False)
        self.launches = SqlLaunches(self._engine)
        with ExitStack() as undo:
            undo.callback(self._engine.dispose)
            try:
                self._sole_use = SoleUse(self._engine)
                undo.callback(self._sole_use.close)
                upgrade(self._engine)
            except StoreUnavailable as error:
                raise ConfigurationError(
                    f"The database of jobs, {shown(url)}, cannot be used: {error.reason}"
                ) from None
            except ProgrammingError as error:  # of its schema, or of our right to make one
                raise ConfigurationError(
                    f"The database of jobs, {shown(url)}, cannot be used: {error.orig}"
                ) from None
            undo.pop_all()

    def renew(self) -> None:
        """See to it that the database is ours still; now and then.

        Raises:
            ConfigurationError: another server took it, while it was not to be reached.
            StoreUnavailable: it cannot be asked.

        """
        self._sole_use.renew()

    def submit(self, job: Job) -> Job:
        """See `Store.submit`."""
        try:
            return self._insert(job)
        except IntegrityError:
            if job.idempotency is None:
                raise
        # If the earlier job was deleted meanwhile, its key is free.
        return self.repeated(job.idempotency.key) or self._insert(job)

    def _insert(self, job: Job) -> Job:
        statement = insert(jobs).values(version=0, **to_row(job)).returning(jobs.c.sequence)
        with self._engine.connect() as connection:
            row = connection.execute(statement).one()
        self._on_change(job.id)
        return replace(job, sequence=row.sequence)

    def repeated(self, key: str) -> Job | None:
        """See `Store.repeated`."""
        return next(iter(self._select(select(jobs).where(jobs.c.idempotency_key == key))), None)

    def get(self, job_id: str) -> Job:
        """See `Store.get`."""
        with self._engine.connect() as connection:
            return _read(connection, job_id)[0]

    def page(self, *, after: str | None, limit: int, order: Order) -> tuple[Sequence[Job], bool]:
        """See `Store.page`."""
        wanted: list[ColumnElement[bool]] = [jobs.c.state != State.DELETED.value]
        if after is not None:
            place = select(jobs.c.sequence).where(jobs.c.id == after).scalar_subquery()
            wanted.append(jobs.c.sequence < place if order == "desc" else jobs.c.sequence > place)
        by = jobs.c.sequence.desc() if order == "desc" else jobs.c.sequence.asc()
        found = self._select(select(jobs).where(*wanted).order_by(by).limit(limit + 1))
        return found[:limit], len(found) > limit

    def waiting(self) -> Sequence[Job]:
        """See `Store.waiting`."""
        return self._in_state(State.QUEUED)

    def num_waiting(self) -> int:
        """See `Store.num_waiting`."""
        return self._count(jobs.c.state == State.QUEUED.value)

    def running(self) -> Sequence[Job]:
        """See `Store.running`."""
        return self._in_state(State.RUNNING)

    def queue_position(self, job_id: str) -> int | None:
        """See `Store.queue_position`."""
        job = self.get(job_id)
        if job.state is not State.QUEUED:
            return None
        return self._count(and_(jobs.c.state == State.QUEUED.value, jobs.c.sequence < job.sequence))

    def waited_for(self) -> Sequence[Job]:
        """See `Store.waited_for`."""
        wanted = select(jobs).where(jobs.c.waited_for, jobs.c.state != State.DELETED.value)
        return self._select(wanted.order_by(jobs.c.sequence))

    def expired(self, now: float) -> Sequence[Job]:
        """See `Store.expired`."""
        return self._in_state(State.SUCCEEDED, jobs.c.expires_at <= now)

    def gone(self, now: float) -> Sequence[Job]:
        """See `Store.gone`."""
        return self._in_state(State.DELETED, jobs.c.expires_at <= now)

    def purge(self, job_id: str) -> None:
        """See `Store.purge`."""
        with self._engine.connect() as connection:
            connection.execute(delete(jobs).where(jobs.c.id == job_id, jobs.c.state == State.DELETED.value))

    def keys_in_use(self) -> set[str]:
        """See `Store.keys_in_use`."""
        keys: set[str] = set()
        wanted = select(jobs).where(jobs.c.state.in_([state.value for state in NEEDY]))
        wanted, last = wanted.order_by(jobs.c.sequence).limit(ROWS_AT_ONCE), 0
        while found := self._select(wanted.where(jobs.c.sequence > last)):
            keys |= keys_of(found)
            last = found[-1].sequence
        return keys

    def close(self) -> None:
        """See `Store.close`."""
        self._sole_use.close()
        self._engine.dispose()
        self._quick.dispose()

    def _change(self, job_id: str, change: Change, *, durable: bool = True) -> tuple[Job, Job]:
        engine = self._engine if durable else self._quick
        with engine.connect() as connection:
            while True:
                before, version = _read(connection, job_id)
                after = change(before)
                if after == before or _swap(connection, after, version):
                    return before, after

    def _in_state(self, state: State, *further: ColumnElement[bool]) -> list[Job]:
        wanted = select(jobs).where(jobs.c.state == state.value, *further)
        return self._select(wanted.order_by(jobs.c.sequence))

    def _count(self, wanted: ColumnElement[bool]) -> int:
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(jobs).where(wanted)).scalar_one()

    def _select(self, statement: Any) -> list[Job]:
        with self._engine.connect() as connection:
            return [from_row(row) for row in connection.execute(statement).mappings()]


def _read(connection: Connection, job_id: str) -> tuple[Job, int]:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()
    if row is None or row["state"] == State.DELETED.value:
        raise NotFound(f"There is no job {job_id!r}.")
    return from_row(row), row["version"]


def _swap(connection: Connection, job: Job, version: int) -> bool:
    """Write `job` if its row is still the one that was read; the version covers state and token alike."""
    guard = and_(jobs.c.id == job.id, jobs.c.version == version)
    changed = connection.execute(update(jobs).where(guard).values(version=version + 1, **to_row(job)))
    return changed.rowcount == 1
