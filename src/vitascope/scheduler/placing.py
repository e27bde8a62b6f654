"""Room on the devices: lets a measured model load, unloads idle ones for it, or refuses it.

The arithmetic is in `room.py`. A model that made room for another stays launched: when a job names it, it
asks for room like any other, and jobs that came later wait until it has some.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence

from vitascope.config import Settings
from vitascope.errors import DoesNotFit
from vitascope.jobs.job import Failure, Job
from vitascope.launch import InstanceState
from vitascope.scheduler.moorings import Moorings
from vitascope.scheduler.room import GIGA, Tenant, missing_bytes, refusal, to_unload
from vitascope.scheduler.roster import Roster
from vitascope.scheduler.slots import Slot
from vitascope.wire import Measure, Proceed

log = logging.getLogger(__name__)


class Placing:
    """Who has room where. `slots` gives all models, `refuse` is called with one that does not fit."""

    def __init__(
        self,
        settings: Settings,
        moorings: Moorings,
        roster: Roster,
        slots: Callable[[], Sequence[Slot]],
        refuse: Callable[[Slot, Failure], None],
    ) -> None:
        self._budget_bytes = settings.memory_budget_bytes
        self._unload_idle = settings.unload_idle
        self._moorings = moorings
        self._roster = roster
        self._slots = slots
        self._refuse = refuse

    def place(self, slot: Slot) -> None:
        """Answer a worker that has measured what its model will take."""
        assert slot.footprint is not None, "it was measured"
        tenants = self._tenants(slot)
        missing = missing_bytes(slot.footprint, [t for t, _ in tenants], self._budget_bytes)
        leaving = to_unload(missing, [t for t, _ in tenants]) if self._unload_idle else None
        if slot.placed or missing <= 0:
            self._proceed(slot)
        elif leaving is not None:
            self._make_room(slot, [s for t, s in tenants if t.uid in leaving])
        elif not self._may_wait(slot, missing, tenants):
            message = refusal(
                slot.uid, slot.footprint, [t for t, _ in tenants], missing, unload_idle=self._unload_idle
            )
            log.error("%s", message)
            self._refuse(slot, Failure(code=DoesNotFit.code, message=message))

    def look(self, waiting: Sequence[Job]) -> Sequence[Job]:
        """Load again what jobs wait for; return the jobs that may be handed out now.

        While a model waits for room, jobs that came after the one that it is for are held back on its
        device, so that others become idle and can be unloaded.
        """
        oldest: dict[str, int] = {}
        for job in waiting:
            oldest.setdefault(job.request.model, job.sequence)
        for slot in self._slots():
            if slot.state is InstanceState.UNLOADED and slot.uid in oldest:
                self._moorings.load(slot, "loading again")
        asking = [slot for slot in self._slots() if slot.asking is not None and not slot.placed]
        if not asking:
            return waiting
        first = min(asking, key=lambda slot: oldest.get(slot.uid, math.inf))
        before = oldest.get(first.uid, math.inf)
        self._moorings.send(first, Measure())
        held_back = {tenant.uid for tenant, _ in self._tenants(first)}
        return [job for job in waiting if job.sequence < before or job.request.model not in held_back]

    def _may_wait(self, slot: Slot, missing: int, tenants: Sequence[tuple[Tenant, Slot]]) -> bool:
        """Whether a model waits until others are idle; a launch is refused instead, and may be repeated."""
        most = sum(tenant.footprint.needs_bytes for tenant, _ in tenants)
        return self._unload_idle and not slot.fresh and missing <= most

    def _proceed(self, slot: Slot) -> None:
        needs = slot.footprint
        if needs is not None and needs.needs_bytes > needs.free_bytes:
            text = "%s needs about %.1f GB on %s, where %.1f GB are free"
            log.warning(text, slot.uid, needs.needs_bytes / GIGA, needs.device, needs.free_bytes / GIGA)
        self._moorings.send(slot, Proceed())
        slot.go_on()

    def _make_room(self, slot: Slot, leaving: Sequence[Slot]) -> None:
        slot.placed = True  # what becomes free is for this one
        for other in leaving:
            log.info("%s is unloaded to make room for %s", other.uid, slot.uid)
        stage = f"made room for {slot.uid}"
        ends = [self._moorings.clear(other, InstanceState.UNLOADED, stage) for other in leaving]
        self._moorings.spawn(self._proceed_after(slot, ends))

    async def _proceed_after(self, slot: Slot, ends: Sequence[asyncio.Task[None]]) -> None:
        await asyncio.gather(*ends)
        if slot.asking is not None:  # it is still there
            self._proceed(slot)

    def _tenants(self, beside: Slot) -> list[tuple[Tenant, Slot]]:
        """Return the other models with room on the device of one."""
        before = self._roster.oldest_waiting(beside.uid)
        return [
            (self._tenant(slot, before), slot)
            for slot in self._slots()
            if slot is not beside and slot.placed and slot.on_device_of(beside)
        ]

    def _tenant(self, slot: Slot, before: float) -> Tenant:
        assert slot.footprint is not None, "what has room was measured"
        return Tenant(
            uid=slot.uid,
            footprint=slot.footprint,
            loaded=slot.state is InstanceState.READY,
            idle=not self._roster.busy(slot.uid, before),
            used_at=max(slot.loaded_at, self._roster.used_at(slot.uid)),
        )
