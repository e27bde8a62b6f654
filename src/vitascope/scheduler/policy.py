"""Who runs next, and where: pure functions of the jobs that wait and the workers that are there.

First come, first served. Priorities and costs will change the order in which `assign` looks at jobs, nothing
else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitascope.jobs.job import Job

MAX_HELD = 2  # one on the device, one whose frames are still being encoded beside it


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What the policy knows of one worker: its name, the model it serves, how many more jobs it takes now."""

    name: str
    model: str
    room: int


def room(stages: Iterable[str]) -> int:
    """Return how many more jobs a worker takes that holds jobs in these stages.

    One at a time is on the device; a job in stage `finish` has left it.
    """
    held = list(stages)
    on_device = any(stage != "finish" for stage in held)
    return 0 if on_device or len(held) >= MAX_HELD else 1


def assign(waiting: Sequence[Job], workers: Sequence[WorkerView]) -> list[tuple[Job, WorkerView]]:
    """Pair waiting jobs, oldest first, with workers that serve their model; the emptiest worker first.

    A job whose model nobody serves now holds nobody up.
    """
    left = {worker.name: worker.room for worker in workers}
    pairs = []
    for job in waiting:
        fitting = [w for w in workers if w.model == job.request.model and left[w.name] > 0]
        if fitting:
            chosen = max(fitting, key=lambda w: left[w.name])
            left[chosen.name] -= 1
            pairs.append((job, chosen))
    return pairs
