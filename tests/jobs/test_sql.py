"""What only the durable store promises."""

from __future__ import annotations

import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from vitascope.jobs.job import Job, new_id
from vitascope.jobs.migrate import upgrade
from vitascope.jobs.schema import metadata
from vitascope.jobs.sql import SqlStore, connect
from vitascope.request import GenerationRequest


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'jobs.sqlite3'}"


def make_job() -> Job:
    request = GenerationRequest(
        model="m", prompt="p", negative_prompt="", height=8, width=8, num_frames=5, fps=8.0,
        num_inference_steps=2, guidance_scale=1.0, seed=0,
    )  # fmt: skip
    return Job(id=new_id(), request=request, created_at=1.0)


def test_the_migrations_build_exactly_the_schema(url):
    engine = connect(url)
    upgrade(engine)
    with engine.connect() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert difference == []


def test_a_reopened_store_knows_its_jobs(url):
    store = SqlStore(url)
    job = store.submit(make_job())
    store.close()
    reopened = SqlStore(url)
    assert reopened.get(job.id) == job
    reopened.close()


def test_state_waits_for_the_disk_and_readers_never_block(url, tmp_path):
    store = SqlStore(url)
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
    writer = sqlite3.connect(tmp_path / "jobs.sqlite3", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert store.waiting() == []
    writer.execute("ROLLBACK")
    writer.close()
    store.close()


def test_sequences_are_never_reused(url):
    store = SqlStore(url)
    first = store.submit(make_job())
    store.delete(first.id, 1.0)
    store.purge(first.id)
    assert store.submit(make_job()).sequence == first.sequence + 1
    store.close()
