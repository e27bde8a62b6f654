"""Where the stores of the contract suites lie."""

from __future__ import annotations

import pytest
from sqlalchemy import delete

from vitascope.jobs.database import connect
from vitascope.jobs.schema import metadata
from vitascope.jobs.sql import SqlStore


@pytest.fixture(scope="session")
def postgresql_url(postgresql):
    """A PostgreSQL database with our tables, one for all tests."""
    SqlStore(postgresql.url()).close()
    return postgresql.url()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def place(request, tmp_path):
    """Where a store keeps its rows, of which there are none yet: a database's URL, or None for memory."""
    if request.param != "postgresql":
        return f"sqlite:///{tmp_path / 'jobs.sqlite3'}" if request.param == "sqlite" else None
    url = request.getfixturevalue("postgresql_url")
    engine = connect(url)
    with engine.connect() as connection:
        for table in metadata.sorted_tables:
            connection.execute(delete(table))
    engine.dispose()
    return url
