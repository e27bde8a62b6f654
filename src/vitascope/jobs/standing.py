"""How a database of jobs stands, looked at from outside: nothing in it is changed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import ProgrammingError

from vitascope.errors import ConfigurationError, StoreUnavailable
from vitascope.jobs.database import connect, in_use, shown
from vitascope.jobs.migrate import to_apply


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A database that can be reached.

    `place` is its URL without a password, `in_use` says that a running server has it, `num_to_apply` counts
    the migrations that the next server brings.
    """

    place: str
    in_use: bool
    num_to_apply: int


def look_at(url: str) -> Standing:
    """Ask a database how it stands.

    Raises:
        ConfigurationError: it cannot be reached or read, or is one of a newer version.

    """
    engine = connect(url)
    try:
        with engine.connect() as connection:
            return Standing(
                place=shown(url), in_use=in_use(connection), num_to_apply=len(to_apply(connection))
            )
    except StoreUnavailable as error:
        raise ConfigurationError(f"{shown(url)} cannot be used: {error.reason}") from None
    except ProgrammingError as error:
        raise ConfigurationError(f"{shown(url)} cannot be read: {error.orig}") from None
    finally:
        engine.dispose()
