"""The way to the database: connections that wait for the disk or not, sole use, and what a refusal means.

What is kept there is not known here.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, exc, make_url, text
from sqlalchemy.pool import ConnectionPoolEntry

from vitascope.errors import ConfigurationError, StoreUnavailable

BUSY_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5
SOLE_USE = 0x7669_7461  # the advisory lock that a server holds in a PostgreSQL database

_HELD = text(
    "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
    "WHERE locktype = 'advisory' AND classid = 0 AND objid = :key AND datname = current_database())"
)
_PASSWORDS = ("password", "sslpassword")  # that libpq takes in a URL's query

log = logging.getLogger(__name__)


def connect(url: str, *, durable: bool = True) -> Engine:
    """Open a pool of autocommitting connections; changes over them wait for the disk only if `durable`.

    What the database refuses for reasons of its own (down, full, broken) is raised as `StoreUnavailable`.

    Raises:
        ConfigurationError: a URL that cannot be read, or whose driver is not installed.

    """
    place = _parsed(url)
    if place.get_backend_name() == "sqlite":
        engine = create_engine(place, isolation_level="AUTOCOMMIT")
        event.listen(engine, "connect", _sqlite_pragmas("FULL" if durable else "NORMAL"))
        _watch_file(engine, Path(place.database or ""))
    else:
        _check_driver()
        engine = create_engine(
            _postgresql(place, durable=durable), isolation_level="AUTOCOMMIT", pool_pre_ping=True
        )
    event.listen(engine, "handle_error", _say_unavailable)
    return engine


class SoleUse:
    """A PostgreSQL database in this server's hands alone; a second server would run the first one's jobs.

    A SQLite file lies in the data folder, which has a lock of its own, and is always ours.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._holder: Connection | None = None
        self._shared = engine.dialect.name == "postgresql"
        self.renew()

    def renew(self) -> None:
        """Take it, unless it is held still; a restart of the database lets it go.

        Raises:
            ConfigurationError: another server has it.
            StoreUnavailable: the database cannot be asked.

        """
        if not self._shared or self._held():
            return
        holder = self._engine.connect()
        if not holder.execute(text(f"SELECT pg_try_advisory_lock({SOLE_USE})")).scalar_one():
            holder.close()
            raise ConfigurationError(
                "Another server uses the database of database_url; stop it, or give each one of its own."
            )
        self._holder = holder

    def close(self) -> None:
        """Let it go."""
        if self._holder is not None:
            with suppress(StoreUnavailable):
                self._holder.invalidate()  # closed for good: a pool would keep it, and the lock with it
            self._holder.close()
            self._holder = None

    def _held(self) -> bool:
        if self._holder is None:
            return False
        try:
            self._holder.execute(text("SELECT 1"))
        except StoreUnavailable:
            self.close()
            return False
        return True


def in_use(connection: Connection) -> bool:
    """Whether a running server has the database, as `SoleUse` sees it; it is not taken for that."""
    if connection.dialect.name != "postgresql":
        return False
    return bool(connection.execute(_HELD, {"key": SOLE_USE}).scalar_one())


def shown(url: str) -> str:
    """Return a URL without its passwords."""
    return _parsed(url).difference_update_query(_PASSWORDS).render_as_string(hide_password=True)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (exc.ArgumentError, ValueError):  # its message may repeat the password
        raise ConfigurationError(
            "database_url cannot be read; write it as postgresql://USER:PASSWORD@HOST:PORT/NAME, with %40 "
            "for @ and %2F for / in a password."
        ) from None


def _postgresql(place: URL, *, durable: bool) -> URL:
    options = str(place.query.get("options", ""))
    if not durable:
        place = place.update_query_dict({"options": f"{options} -c synchronous_commit=off".strip()})
    if "connect_timeout" not in place.query:
        place = place.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_S)})
    return place.set(drivername="postgresql+psycopg")


def _check_driver() -> None:
    try:
        importlib.import_module("psycopg")
    except ImportError:
        raise ConfigurationError(
            "PostgreSQL (database_url) needs psycopg: pip install 'vitascope[postgresql]'."
        ) from None


def _sqlite_pragmas(synchronous: str) -> Callable[[Any, Any], None]:
    def on_connect(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.close()

    return on_connect


def _watch_file(engine: Engine, path: Path) -> None:
    """Use no connection to a file that was removed or replaced: what is written there is lost."""

    def on_connect(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["file"] = _identity(path)

    def on_checkout(_connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        if record.info["file"] != _identity(path):
            log.error("the database %s was removed or replaced", path)
            raise exc.DisconnectionError

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "checkout", on_checkout)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _say_unavailable(context: ExceptionContext) -> BaseException | None:
    """Tell the database's own trouble from our mistakes, which pass as they are."""
    error = context.sqlalchemy_exception
    ours = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)
    if context.is_pre_ping or not isinstance(error, exc.DBAPIError) or isinstance(error, ours):
        return None
    why = " ".join(str(context.original_exception).split())
    log.error("the database refuses: %s", why)
    return StoreUnavailable(why)
