"""Bring a database to the newest schema; run whenever a store is opened."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from vitascope.errors import ConfigurationError

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Apply the migrations that the database has not seen yet: all of them, or none if this is cut short.

    Raises:
        ConfigurationError: a newer version has brought the database further than is known here.

    """
    config = _config()
    with engine.connect() as connection:
        _begin(connection)
        to_apply(connection)  # refuses a newer one
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


def to_apply(connection: Connection) -> list[str]:
    """Name the migrations that the database has not seen yet, the newest first.

    Raises:
        ConfigurationError: a newer version has brought the database further than is known here.

    """
    known = [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]
    seen = {*MigrationContext.configure(connection).get_current_heads()}
    if unknown := seen.difference(known):
        raise ConfigurationError(
            f"The jobs were kept by a newer version, whose schema {', '.join(unknown)} is not known here; "
            "start that version, or go back to a copy from before."
        )
    return list(takewhile(lambda revision: revision not in seen, known))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _begin(connection: Connection) -> None:
    """Begin a transaction, so that alembic begins none; Python's SQLite driver would begin none for DDL."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execution_options(isolation_level="READ COMMITTED").begin()
