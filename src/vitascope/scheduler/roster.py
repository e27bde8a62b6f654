"""What the dispatcher remembers: which workers are ready, what they hold, who waits, how long that takes.

Memory only, lost with the process; the store owns what is true. Changed on the event loop, read from any
thread.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from vitascope.card import ModelCard
from vitascope.jobs.job import Job, Tally
from vitascope.scheduler.cost import CostBook, wait_s
from vitascope.scheduler.policy import WorkerView, room
from vitascope.wire import Progress


@dataclass(slots=True)
class Held:
    """A job in a worker's hands. `seen_at` is when it last said where it is, on the monotonic clock."""

    job: Job  # as it was claimed
    worker: str
    stage: str = "start"
    step: int = 0
    first_step: int = 0  # where this worker took it up
    seen_at: float = field(default_factory=time.monotonic)
    pending: Tally | None = None  # not written yet
    cancel_sent: bool = False
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def token(self) -> int:
        """The fencing token of this claim."""
        return self.job.claim.token


@dataclass(frozen=True, slots=True)
class Place:
    """A waiting job's place in line and what it will cost, as far as that is known."""

    sequence: int
    model: str
    cost_s: float | None


class Roster:
    """Workers, held jobs and the line."""

    def __init__(self) -> None:
        self.costs = CostBook()
        self.held: dict[str, Held] = {}  # by job id
        self._cards: dict[str, ModelCard] = {}  # of the workers that are ready, by worker
        self._line: tuple[Place, ...] = ()
        self._used_at: dict[str, float] = {}  # when a model last worked, on the monotonic clock

    def add_worker(self, name: str, card: ModelCard) -> None:
        """Take in that a worker is ready."""
        self._cards[name] = card

    def retire(self, model: str) -> None:
        """Give no more jobs to the workers of a model; what they hold stays in `held`."""
        for worker in [name for name, card in self._cards.items() if card.name == model]:
            del self._cards[worker]

    def hold(self, held: Held) -> None:
        """Take in that a worker was given a job."""
        self.held[held.job.id] = held
        self._used_at[held.job.request.model] = time.monotonic()

    def release(self, held: Held) -> None:
        """Take in that a worker has a job no more."""
        if self.held.get(held.job.id) is held:
            del self.held[held.job.id]
        self._used_at[held.job.request.model] = time.monotonic()

    def used_at(self, model: str) -> float:
        """Say when a model last worked, on the monotonic clock; 0 if it never did."""
        return self._used_at.get(model, 0.0)

    def oldest_waiting(self, model: str) -> float:
        """Return the sequence of the job that waits longest for a model; infinite if none does."""
        return min((place.sequence for place in self._line if place.model == model), default=math.inf)

    def busy(self, model: str, before: float) -> bool:
        """Whether a model's workers hold jobs, or one waits for it that was submitted before another."""
        held = any(held.job.request.model == model for held in self.held.values())
        return held or self.oldest_waiting(model) < before

    def remove_worker(self, name: str) -> list[Held]:
        """Take in that a worker is gone; return what it held, which stays in `held`."""
        self._cards.pop(name, None)
        return [held for held in self.held.values() if held.worker == name]

    def serves(self, worker: str) -> bool:
        """Whether a worker is ready."""
        return worker in self._cards

    def views(self) -> list[WorkerView]:
        """Describe the ready workers to the policy."""
        return [
            WorkerView(name, card.name, room(h.stage for h in self.held.values() if h.worker == name))
            for name, card in self._cards.items()
        ]

    def line_up(self, waiting: Sequence[Job]) -> None:
        """Remember who waits."""
        self._line = tuple(
            Place(job.sequence, job.request.model, self._cost_s(job, "queued", job.claim.resume_step))
            for job in waiting
        )

    def advance(self, held: Held, progress: Progress) -> None:
        """Take in how far a job is, and learn from it what a step costs."""
        now = time.monotonic()
        steps = progress.step - held.step
        if progress.stage == held.stage == "denoise" and steps > 0:
            self.costs.observe_step(held.job.request, (now - held.seen_at) / steps)
        held.stage, held.step, held.seen_at = progress.stage, progress.step, now

    def slowest_s(self, worker: str) -> float:
        """Return the longest that a part of what a worker holds is known to take; 0 if nothing is known."""
        known = [self.costs.rates(held.job.request) for held in self.held.values() if held.worker == worker]
        return max((rates.longest_s for rates in known if rates is not None), default=0.0)

    def eta_s(self, job: Job) -> float | None:
        """Estimate the seconds until an unfinished job is done; None when nobody can tell."""
        held = self.held.get(job.id)
        return self._held_eta_s(held) if held is not None else self._waiting_eta_s(job)

    def _held_eta_s(self, held: Held) -> float | None:
        left = self._cost_s(held.job, held.stage, held.step)
        return None if left is None else max(0.0, left - (time.monotonic() - held.seen_at))

    def _waiting_eta_s(self, job: Job) -> float | None:
        model = job.request.model
        own = self._cost_s(job, "queued", job.claim.resume_step)
        free_in = self._free_in(model)
        costs = [p.cost_s for p in self._line if p.model == model and p.sequence < job.sequence]
        known, known_free = [c for c in costs if c is not None], [f for f in free_in if f is not None]
        if own is None or not free_in or len(known) < len(costs) or len(known_free) < len(free_in):
            return None
        return wait_s(known_free, known) + own

    def _free_in(self, model: str) -> list[float | None]:
        """Say for each worker of a model in how many seconds it is done with what it holds."""
        workers = [name for name, card in list(self._cards.items()) if card.name == model]
        held = list(self.held.values())
        return [_total([self._held_eta_s(h) for h in held if h.worker == worker]) for worker in workers]

    def _cost_s(self, job: Job, stage: str, step: int) -> float | None:
        return self.costs.remaining_s(job.request, stage, step)


def _total(seconds: list[float | None]) -> float | None:
    known = [s for s in seconds if s is not None]
    return sum(known) if len(known) == len(seconds) else None
