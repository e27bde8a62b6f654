"""What was launched and is to be launched again when the server starts: a narrow book beside the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
from sqlalchemy import Engine, delete, insert, select

from vitascope.jobs.schema import launched
from vitascope.launch import Launched, LaunchSpec


class LaunchBook(Protocol):
    """Thread-safe and synchronous; every change is durable when the call returns."""

    def launched(self) -> Sequence[Launched]:
        """Return what is written down, oldest first."""

    def remember(self, launch: Launched) -> None:
        """Write a launch down, in the place of one with the same uid."""

    def forget(self, uid: str) -> None:
        """Strike a launch out; one that is not there is no error."""


class MemoryLaunches:
    """The twin in memory, for tests."""

    def __init__(self) -> None:
        self._launched: dict[str, Launched] = {}

    def launched(self) -> Sequence[Launched]:
        """See `LaunchBook.launched`."""
        return sorted(self._launched.values(), key=_age)

    def remember(self, launch: Launched) -> None:
        """See `LaunchBook.remember`."""
        self._launched[launch.uid] = launch

    def forget(self, uid: str) -> None:
        """See `LaunchBook.forget`."""
        self._launched.pop(uid, None)


class SqlLaunches:
    """The book in the store's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def launched(self) -> Sequence[Launched]:
        """See `LaunchBook.launched`."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(launched)).all()
        return sorted(
            (
                Launched(
                    uid=row.uid,
                    spec=msgspec.json.decode(row.spec, type=LaunchSpec),
                    created_at=row.created_at,
                )
                for row in rows
            ),
            key=_age,
        )

    def remember(self, launch: Launched) -> None:
        """See `LaunchBook.remember`."""
        row = {
            "uid": launch.uid,
            "created_at": launch.created_at,
            "spec": msgspec.json.encode(launch.spec).decode(),
        }
        with self._engine.connect() as connection:
            connection.execute(delete(launched).where(launched.c.uid == launch.uid))
            connection.execute(insert(launched).values(row))

    def forget(self, uid: str) -> None:
        """See `LaunchBook.forget`."""
        with self._engine.connect() as connection:
            connection.execute(delete(launched).where(launched.c.uid == uid))


def _age(launch: Launched) -> tuple[float, str]:
    return launch.created_at, launch.uid
