"""What only the durable store promises."""

from __future__ import annotations

import shutil
import sqlite3
import sys

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, text

from vitascope.errors import ConfigurationError, StoreUnavailable
from vitascope.jobs.database import connect
from vitascope.jobs.job import Idempotency, Job, new_id
from vitascope.jobs.migrate import upgrade
from vitascope.jobs.schema import metadata
from vitascope.jobs.sql import SqlStore
from vitascope.request import GenerationRequest


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'jobs.sqlite3'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request):
    """An empty database of either kind."""
    if request.param == "sqlite":
        return request.getfixturevalue("url")
    return request.getfixturevalue("postgresql").new_database()


def make_job(idempotency: Idempotency | None = None, **changes) -> Job:
    request = GenerationRequest(
        model="m", prompt="p", negative_prompt="", height=8, width=8, num_frames=5, fps=8.0,
        num_inference_steps=2, guidance_scale=1.0, seed=0, **changes,
    )  # fmt: skip
    return Job(id=new_id(), request=request, created_at=1.0, idempotency=idempotency)


REVISIONS = [f"000{number}" for number in range(1, 6)]


@pytest.mark.parametrize("first", [*REVISIONS, "head"])
def test_the_migrations_build_exactly_the_schema_from_every_earlier_one(any_url, first):
    engine = connect(any_url)
    upgrade(engine, first)
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


ROW_OF_0001 = """
INSERT INTO jobs (id, version, state, created_at, request, stage, step, num_steps, percent, token, attempts,
                  resume_step, cancel_requested, delete_requested, warnings, files)
VALUES ('video_1', 3, 'queued', 7.25, %s, 'queued', 0, 2, 0, 4, 1, 0, false, false, '[]', '[]')
"""


def test_a_job_of_the_first_release_is_read_after_all_migrations(any_url):
    request = msgspec.json.encode(make_job().request).decode().replace("'", "''")
    engine = connect(any_url)
    upgrade(engine, "0001")
    with engine.connect() as connection:
        connection.exec_driver_sql((ROW_OF_0001 % f"'{request}'").replace("%", "%%"))
    engine.dispose()
    store = SqlStore(any_url)
    job = store.claim("video_1", "w", 8.0)
    store.close()
    assert (job.request, job.created_at, job.claim.token) == (make_job().request, 7.25, 5)


def test_migrations_that_are_cut_short_change_nothing(any_url, monkeypatch):
    """A server that is killed in the middle starts again: nothing is there twice, nothing half."""
    engine = connect(any_url)
    upgrade(engine, "0002")
    with monkeypatch.context() as patch:  # the way out of the transaction that a kill leaves
        patch.setattr("sqlalchemy.Connection.commit", lambda self: self.invalidate())
        upgrade(engine)
    engine.dispose()
    again = connect(any_url)
    with again.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "0002"
    upgrade(again)
    again.dispose()


def test_a_newer_versions_database_is_refused_and_left_alone(any_url):
    engine = connect(any_url)
    upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="newer version, whose schema 9999 is not known here"):
        upgrade(engine)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "9999"
    engine.dispose()


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path, url):
    (tmp_path / "jobs.sqlite3").write_bytes(b"not a database at all" * 100)
    with pytest.raises(ConfigurationError, match=r"jobs\.sqlite3, cannot be used: file is not a database$"):
        SqlStore(url)


def test_what_the_database_refuses_is_told_without_its_insides(url, tmp_path, caplog):
    store = SqlStore(url)
    job = store.submit(make_job())
    store.close()  # what follows is read anew
    path = tmp_path / "jobs.sqlite3"
    path.write_bytes(path.read_bytes()[:4096] + b"\0" * 4096)
    with pytest.raises(
        StoreUnavailable, match=r"^The server cannot read or write its jobs now; try again"
    ) as it:
        store.get(job.id)
    assert "malformed" in it.value.reason
    assert "the database refuses: database disk image is malformed" in caplog.text
    store.close()


def test_a_database_that_another_server_uses_is_refused_until_that_is_gone(postgresql):
    url = postgresql.new_database()
    first = SqlStore(url)
    with pytest.raises(ConfigurationError, match="Another server uses the database"):
        SqlStore(url)
    first.close()
    SqlStore(url).close()


def test_a_store_goes_on_once_its_database_is_there_again_and_holds_it_alone(postgresql, caplog):
    url = postgresql.new_database()
    store = SqlStore(url)
    job = store.submit(make_job())
    postgresql.stop()
    try:
        for call in (store.waiting, store.renew, lambda: store.submit(make_job())):
            with pytest.raises(StoreUnavailable):
                call()
        with pytest.raises(ConfigurationError, match="cannot be used: connection") as refused:
            SqlStore(url)
    finally:
        postgresql.start()
    assert "pa%20ss" not in str(refused.value) + caplog.text
    assert store.waiting() == [job]
    store.renew()
    with pytest.raises(ConfigurationError, match="Another server"):
        SqlStore(url)
    store.close()


def test_a_server_that_lost_its_database_to_another_is_told(postgresql):
    url = postgresql.new_database()
    slow = SqlStore(url)
    postgresql.stop()
    postgresql.start()
    quick = SqlStore(url)
    with pytest.raises(ConfigurationError, match="Another server"):
        slow.renew()
    quick.close()
    slow.close()


def test_a_missing_driver_is_named_with_its_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'vitascope\[postgresql\]'"):
        SqlStore("postgresql://h/d")


def test_a_url_that_cannot_be_read_is_not_repeated():
    with pytest.raises(ConfigurationError, match="%40 for @") as refused:
        SqlStore("postgresql://vito:pa/ss@h:x/d")
    assert "pa/ss" not in str(refused.value)


def test_a_database_in_which_nothing_may_be_made_is_refused_in_one_line(postgresql):
    url = postgresql.new_database()
    engine = connect(url)
    with engine.connect() as connection:
        connection.execute(text("CREATE ROLE reader LOGIN"))
        connection.execute(text("REVOKE CREATE ON SCHEMA public FROM public"))
    engine.dispose()
    with pytest.raises(ConfigurationError, match="cannot be used: permission denied for schema public"):
        SqlStore(url.replace("vitascope:pa%20ss@", "reader@"))


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_job_is_not_taken_into_a_database_that_was_removed(tmp_path, what, caplog):
    folder = tmp_path / "data"
    folder.mkdir()
    store = SqlStore(f"sqlite:///{folder / 'jobs.sqlite3'}")
    store.submit(make_job())
    if what == "folder":
        shutil.rmtree(folder)
    else:
        (folder / "jobs.sqlite3").unlink()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.submit(make_job())
    store.close()
    assert "was removed or replaced" in caplog.text


def test_no_everyday_question_sorts_or_reads_the_whole_table(url):
    store, asked = SqlStore(url), []
    job = store.submit(make_job())
    with store._engine.connect() as connection:
        event.listen(store._engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
        for question in (
            lambda: store.get(job.id), lambda: store.queue_position(job.id), lambda: store.repeated("k"),
            store.waiting, store.num_waiting, store.running,
            lambda: store.expired(2.0), lambda: store.gone(2.0),
            lambda: store.page(after=job.id, limit=20, order="desc"),
            lambda: store.page(after=job.id, limit=20, order="asc"),
            lambda: store.claim(job.id, "w", 2.0),
        ):  # fmt: skip
            question()
        for statement, values in tuple(asked):
            plan = (
                connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).scalars("detail").all()
            )
            assert plan, statement
            assert not [step for step in plan if "TEMP B-TREE" in step or step.startswith("SCAN jobs")], (
                statement
            )
    store.close()
    assert len(asked) >= 11


def test_the_keys_of_very_many_jobs_are_read_a_few_at_a_time(url, monkeypatch):
    monkeypatch.setattr("vitascope.jobs.sql.ROWS_AT_ONCE", 3)
    store = SqlStore(url)
    made = [make_job(first_frame=f"{number}.png") for number in range(7)]
    for job in made:
        store.submit(job)
    store.request_cancel(made[1].id, 1.0)
    read = []
    event.listen(store._engine, "before_cursor_execute", lambda *call: read.append(call[3]))
    assert store.keys_in_use() == {f"{number}.png" for number in (0, 2, 3, 4, 5, 6)}
    assert len(read) == 3  # six rows, and none after them
    store.close()


def test_a_key_whose_job_is_deleted_while_another_comes_under_it_is_free(url):
    class Meeting(SqlStore):
        def repeated(self, key):
            self.delete(first.id, 1.0)
            return super().repeated(key)

    mark = Idempotency(key="k" * 64, body="b" * 64)
    store = Meeting(url)
    first = store.submit(make_job(mark))
    second = store.submit(make_job(mark))
    assert (store.get(second.id), second.sequence) == (second, first.sequence + 1)
    store.close()
