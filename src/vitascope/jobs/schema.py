"""The tables, and the way between a row and a `Job`. Migrations bring a database to this shape."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    false,
)

from vitascope.jobs.job import Claim, Failure, Idempotency, Job, State, Tally
from vitascope.request import GenerationRequest
from vitascope.wire import Stats, StoredFile

metadata = MetaData()

# SQLite hands out ever-growing keys only for a column that is exactly INTEGER.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

jobs = Table(
    "jobs",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("version", BigInteger, nullable=False),  # grows with each change: the guard of every update
    Column("state", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("expires_at", Double),
    Column("request", Text, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("num_steps", Integer, nullable=False),
    Column("eta_s", Double),
    Column("percent", Integer, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("worker", String(64)),
    Column("attempts", Integer, nullable=False),
    Column("resume_key", String(128)),
    Column("resume_step", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("delete_requested", Boolean, nullable=False),
    Column("waited_for", Boolean, nullable=False, server_default=false()),
    Column("warnings", Text, nullable=False),
    Column("files", Text, nullable=False),
    Column("stats", Text),
    Column("failure", Text),
    Column("idempotency_key", String(64)),
    Column("idempotency_body", String(64)),
    Column("remixed_from", String(64)),
    Index("jobs_by_state", "state", "sequence"),
    Index("jobs_by_idempotency_key", "idempotency_key", unique=True),
    sqlite_autoincrement=True,
)

launched = Table(
    "launched",
    metadata,
    Column("uid", String(128), primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("spec", Text, nullable=False),
)


def to_row(job: Job) -> dict[str, Any]:
    """Return the columns of a job, but for `sequence` and `version`."""
    return {
        "id": job.id,
        "state": job.state.value,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "expires_at": job.expires_at,
        "request": _dump(job.request),
        "stage": job.tally.stage,
        "step": job.tally.step,
        "num_steps": job.tally.num_steps,
        "eta_s": job.tally.eta_s,
        "percent": job.tally.percent,
        "token": job.claim.token,
        "worker": job.claim.worker,
        "attempts": job.claim.attempts,
        "resume_key": job.claim.resume_key,
        "resume_step": job.claim.resume_step,
        "cancel_requested": job.cancel_requested,
        "delete_requested": job.delete_requested,
        "waited_for": job.waited_for,
        "warnings": _dump(job.warnings),
        "files": _dump(job.files),
        "stats": None if job.stats is None else _dump(job.stats),
        "failure": None if job.failure is None else _dump(job.failure),
        "idempotency_key": None if job.idempotency is None else job.idempotency.key,
        "idempotency_body": None if job.idempotency is None else job.idempotency.body,
        "remixed_from": job.remixed_from,
    }


def from_row(row: RowMapping) -> Job:
    """Read a job from its row."""
    return Job(
        id=row["id"],
        request=msgspec.json.decode(row["request"], type=GenerationRequest),
        state=State(row["state"]),
        created_at=row["created_at"],
        sequence=row["sequence"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        expires_at=row["expires_at"],
        tally=Tally(**{name: row[name] for name in ("stage", "step", "num_steps", "eta_s", "percent")}),
        claim=Claim(
            **{name: row[name] for name in ("token", "worker", "attempts", "resume_key", "resume_step")}
        ),
        cancel_requested=row["cancel_requested"],
        delete_requested=row["delete_requested"],
        waited_for=row["waited_for"],
        warnings=msgspec.json.decode(row["warnings"], type=tuple[str, ...]),
        files=msgspec.json.decode(row["files"], type=tuple[StoredFile, ...]),
        stats=None if row["stats"] is None else msgspec.json.decode(row["stats"], type=Stats),
        failure=None if row["failure"] is None else msgspec.json.decode(row["failure"], type=Failure),
        idempotency=_idempotency(row),
        remixed_from=row["remixed_from"],
    )


def _idempotency(row: RowMapping) -> Idempotency | None:
    key = row["idempotency_key"]
    return None if key is None else Idempotency(key=key, body=row["idempotency_body"])


def _dump(value: Any) -> str:
    return msgspec.json.encode(value).decode()
