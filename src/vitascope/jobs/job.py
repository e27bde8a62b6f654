"""The job and its life, as one table.

Rules for whoever edits this: states are stored by name, so never rename one; a move that `TRANSITIONS` does
not list raises and changes nothing; `apply` is the only place that changes a job's state.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from enum import StrEnum

from vitascope.errors import IllegalTransition
from vitascope.request import GenerationRequest
from vitascope.wire import Stats, StoredFile


class State(StrEnum):
    """Where a job is. Dialects translate these words to theirs."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # the files were removed, the row is kept
    DELETED = "deleted"  # gone for every reader; the row goes with the next sweep


class Move(StrEnum):
    """What happens to a job."""

    START = "start"  # a worker claimed it
    REQUEUE = "requeue"  # its worker was lost, or gave it back at a step boundary
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"
    DELETE = "delete"


TRANSITIONS: dict[tuple[State, Move], State] = {
    (State.QUEUED, Move.START): State.RUNNING,
    (State.QUEUED, Move.FAIL): State.FAILED,
    (State.QUEUED, Move.CANCEL): State.CANCELLED,
    (State.RUNNING, Move.REQUEUE): State.QUEUED,
    (State.RUNNING, Move.SUCCEED): State.SUCCEEDED,
    (State.RUNNING, Move.FAIL): State.FAILED,
    (State.RUNNING, Move.CANCEL): State.CANCELLED,
    (State.SUCCEEDED, Move.EXPIRE): State.EXPIRED,
    (State.FAILED, Move.EXPIRE): State.EXPIRED,
    (State.CANCELLED, Move.EXPIRE): State.EXPIRED,
    (State.SUCCEEDED, Move.DELETE): State.DELETED,
    (State.FAILED, Move.DELETE): State.DELETED,
    (State.CANCELLED, Move.DELETE): State.DELETED,
    (State.EXPIRED, Move.DELETE): State.DELETED,
}

TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED, State.DELETED})


def apply(state: State, move: Move) -> State:
    """Return the state after `move`, or raise `IllegalTransition`."""
    try:
        return TRANSITIONS[state, move]
    except KeyError:
        raise IllegalTransition(f"a job that is {state} cannot {move}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job in a worker's hands: `token` grows with every claim, so that an old one's late report is refused.

    `resume_key` and `resume_step` name the newest checkpoint; they outlive the claim.
    """

    token: int = 0
    worker: str | None = None
    attempts: int = 0
    resume_key: str | None = None
    resume_step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How far a job is: `stage` of the engine, steps done of all, device seconds left as last estimated."""

    stage: str = "queued"
    step: int = 0
    num_steps: int = 0
    eta_s: float | None = None
    percent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job failed: a stable code and a sentence that is safe to show."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """Under which key, and from what body, a caller created a job: hashes of both (SHA-256, hexadecimal)."""

    key: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row. Times are unix seconds (fractions kept); `sequence` orders jobs totally by submission.

    `waited_for`: its caller waits on the line, and the job goes when the caller has its file or is gone.
    `remixed_from`: the id of the job whose request this one repeats with another prompt.
    """

    id: str
    request: GenerationRequest
    state: State = State.QUEUED
    created_at: float
    sequence: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    tally: Tally = field(default_factory=Tally)
    claim: Claim = field(default_factory=Claim)
    cancel_requested: bool = False
    delete_requested: bool = False
    waited_for: bool = False
    warnings: tuple[str, ...] = ()
    files: tuple[StoredFile, ...] = ()
    stats: Stats | None = None
    failure: Failure | None = None
    idempotency: Idempotency | None = None
    remixed_from: str | None = None

    def file(self, variant: str, output: int = 0) -> StoredFile | None:
        """Return the stored file of that variant of an output, or None."""
        return next((f for f in self.files if (f.variant, f.output) == (variant, output)), None)

    @property
    def num_stored(self) -> int:
        """Outputs whose files are stored, the first ones, while the job may still be making others."""
        return len({file.output for file in self.files})

    @property
    def stored_steps(self) -> int:
        """Steps of the outputs that are stored, as steps are counted through all outputs."""
        return self.num_stored * self.request.num_steps

    def moved(self, move: Move, **changes: object) -> Job:
        """Return the job after `move` with `changes` applied, or raise `IllegalTransition`."""
        return replace(self, state=apply(self.state, move), **changes)  # type: ignore[arg-type]


def new_id() -> str:
    """Make a job id: `video_` and 32 hexadecimal digits, unguessable."""
    return "video_" + secrets.token_hex(16)
