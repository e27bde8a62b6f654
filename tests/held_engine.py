"""An engine that a test may hold between two steps; a worker still listens, cancels and parks there."""

from __future__ import annotations

import time

from holds import LOOK_S, Holds
from vitascope.engine.engine import Engine
from vitascope.engine.events import Cancelled, Event


def held_engine(holds: Holds) -> type[Engine]:
    """Return the engine's class, with a `tick` that does no work while a job is held."""

    class HeldEngine(Engine):
        def tick(self) -> list[Event]:
            cancelled: list[Event] = [Cancelled(job_id) for job_id in self._obey_cancels()]
            step = holds.step
            if step is None or all(flying.step < step for flying in self._flying.values()):
                return cancelled + super().tick()
            time.sleep(LOOK_S)
            self._on_device = []
            return cancelled

    return HeldEngine
