"""The launcher: which models are served, side by side; loads them, makes room for them and ends them.

It decides who may stay on a device by what the workers measured (`room.py`), writes down what was launched
before it says so, and knows nothing of jobs but which models they wait for. All on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from vitascope.card import ModelCard
from vitascope.config import Settings
from vitascope.errors import (
    CheckpointError,
    ConfigurationError,
    DoesNotFit,
    InvalidRequest,
    LaunchCancelled,
    LaunchFailed,
    ModelExists,
    ModelNotAvailable,
    ModelNotFound,
    Unavailable,
    VitascopeError,
    WorkerLost,
)
from vitascope.jobs.job import Failure, Job
from vitascope.jobs.launches import LaunchBook
from vitascope.launch import Instance, InstanceState, Launched, LaunchSpec
from vitascope.scheduler.fleet import Lost
from vitascope.scheduler.launch_rules import LaunchRules, configured
from vitascope.scheduler.moorings import Berths, Moorings
from vitascope.scheduler.offload import Offload
from vitascope.scheduler.placing import Placing
from vitascope.scheduler.roster import Roster
from vitascope.scheduler.slots import Slot
from vitascope.wire import Event, LoadFailed, Loading, Measured

NOTHING_SERVED = "No model is served now; launch one first."
_OPEN = (InstanceState.LOADING, InstanceState.READY, InstanceState.UNLOADED)

log = logging.getLogger(__name__)


class Launcher:
    """The models of one server. `start` it before the dispatcher runs, `close` it when the server stops."""

    def __init__(
        self,
        settings: Settings,
        book: LaunchBook,
        fleet: Berths,
        roster: Roster,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._book = book
        self._roster = roster
        self._clock = clock
        self._rules = LaunchRules(settings)
        self._moorings = Moorings(fleet, roster)
        self._placing = Placing(settings, self._moorings, roster, self._all, self._fail)
        self._off = Offload(1, "launcher")  # one thread: rows are written in the order of the calls
        self._slots: dict[str, Slot] = {}
        self._closing = False
        self.on_change: Callable[[], None] = lambda: None  # what jobs wait for may have changed
        self.hopeless = asyncio.Event()  # a model of the settings could not be loaded even once
        self.failure: Failure | None = None  # of that one

    # ---- what the api asks

    def ready(self) -> bool:
        """Whether any model takes jobs now."""
        return any(s.state in {InstanceState.READY, InstanceState.UNLOADED} for s in self._all())

    def trouble(self) -> str | None:
        """Why no model takes jobs, as far as it is known; safe to show."""
        if self.ready():
            return None
        slots = [s for s in self._all() if s.state is InstanceState.LOADING] or self._all()
        if not slots:
            return NOTHING_SERVED
        return next((slot.shown(slot.failure) for slot in slots if slot.failure is not None), None)

    def cards(self) -> Sequence[ModelCard]:
        """Return the cards of the served models, the default one first; kept while a worker restarts."""
        return [slot.card for slot in self._all() if slot.card is not None and slot.state in _OPEN]

    def instances(self) -> Sequence[Instance]:
        """See `Launching.instances`."""
        return [slot.view() for slot in self._all()]

    def instance(self, uid: str) -> Instance:
        """See `Launching.instance`."""
        return self._find(uid).view()

    async def launch(self, spec: LaunchSpec) -> Instance:
        """See `Launching.launch`."""
        if self._closing:
            raise Unavailable("The server stops; launch the model when it is there again.")
        settings = await self._off(self._rules.settle, spec)
        uid = str(settings.model_name)  # the rules settled it
        self._check_free(uid)
        slot = self._add(Slot(uid=uid, spec=spec, settings=settings, created_at=self._clock(), fresh=True))
        try:
            launched = Launched(uid=slot.uid, spec=spec, created_at=slot.created_at)
            await self._off(self._book.remember, launched)
        except BaseException:
            self._drop(slot)
            raise
        if slot.state is InstanceState.LOADING:  # else it was cancelled meanwhile
            self._moorings.load(slot)
        return slot.view()

    async def wait(self, uid: str) -> Instance:
        """See `Launching.wait`."""
        slot = self._find(uid)
        while slot.state is InstanceState.LOADING:
            await slot.settled.wait()
        there = slot.view()
        if there.state is InstanceState.TERMINATED:
            why = "is put off: the server stops" if self._closing else "was cancelled"
            raise LaunchCancelled(f"The launch of {uid} {why}.")
        if there.state is InstanceState.ERROR:
            kind = DoesNotFit if there.error_code == DoesNotFit.code else LaunchFailed
            raise kind(there.error or f"{uid} could not be loaded.")
        return there

    async def cancel(self, uid: str) -> Instance:
        """See `Launching.cancel`."""
        self._rules.check_allowed()
        slot = self._find(uid)
        if slot.state is not InstanceState.LOADING or slot.was_loaded:
            raise InvalidRequest(f"{uid} is not being launched; terminate it instead.", param="model_uid")
        return await self._end(slot)

    async def terminate(self, uid: str) -> Instance:
        """See `Launching.terminate`."""
        self._rules.check_allowed()
        return await self._end(self._find(uid))

    # ---- life

    async def start(self) -> None:
        """Load the models of the settings, and as soon as these have room those that were launched before.

        Raises:
            ConfigurationError: two models of the settings have one name.

        """
        for spec, settings in configured(self._settings):
            if spec.uid in self._slots:
                raise ConfigurationError(f"Two models are called {spec.uid}; name them with NAME=PATH.")
            self._add(
                Slot(
                    uid=str(spec.uid),
                    spec=spec,
                    settings=settings,
                    created_at=self._clock(),
                    configured=True,
                    named=settings.model_name is not None,
                )
            )
        first, again = self._all(), [await self._restored(it) for it in await self._off(self._book.launched)]
        for slot in first:
            self._moorings.load(slot)
        self._moorings.spawn(self._load_after(first, [slot for slot in again if slot is not None]))

    async def _restored(self, launched: Launched) -> Slot | None:
        try:
            settings = await self._off(self._rules.settle, launched.spec)
            self._check_free(str(settings.model_name))
        except VitascopeError as error:
            log.warning("%s is not launched again: %s", launched.uid, error.message)
            return None
        return self._add(
            Slot(
                uid=str(settings.model_name),
                spec=launched.spec,
                settings=settings,
                created_at=launched.created_at,
                stage="in line",
            )
        )

    async def _load_after(self, first: Sequence[Slot], then: Sequence[Slot]) -> None:
        for slot in first:
            await slot.decided.wait()
        for slot in then:
            if slot.state is InstanceState.LOADING:  # else it was terminated meanwhile
                self._moorings.load(slot)

    async def close(self) -> None:
        """Tell those who wait for a load that it will not come; before the fleet is stopped."""
        self._closing = True
        for slot in self._all():
            if slot.state is InstanceState.LOADING:
                slot.leave(InstanceState.TERMINATED, "the server stops")
        await self._moorings.close()
        await asyncio.to_thread(self._off.close)

    # ---- what the dispatcher tells and asks

    def hear(self, worker: str, event: Event | Lost) -> None:
        """Take in what a worker says of its loading, or that it is gone."""
        slot = self._moorings.slot_of(worker)
        if slot is None:  # it was terminated or unloaded
            return
        match event:
            case Loading():
                slot.advance(event)
            case Measured():
                slot.measured(worker, event)
                self._placing.place(slot)
            case LoadFailed():
                log.error("%s cannot be loaded: %s", slot.uid, event.message)
                slot.failure = Failure(code=event.code, message=event.message)
            case Lost():
                self._lost(slot, event)

    def loaded(self, worker: str, card: ModelCard) -> bool:
        """Take in that a worker has its model loaded; return whether it may have jobs."""
        slot = self._moorings.slot_of(worker)
        if slot is None:
            return False
        other = self._slots.get(card.name)
        if other is not None and other is not slot:
            self._fail(slot, _name_taken(card.name))
            return False
        if slot.uid != card.name:
            self._slots = {s.uid if s is not slot else card.name: s for s in self._all()}
        slot.loaded(card)
        log.info("%s serves %s", worker, card.name)
        return True

    def knows(self, worker: str) -> bool:
        """Whether a worker's model is still to be served; else its end is not held against its jobs."""
        return self._moorings.slot_of(worker) is not None

    def fate(self, model: str) -> Failure | None:
        """Say why a job for a model will never run; None while it may."""
        slot = self._slots.get(model)
        if slot is None:
            if any(not s.named for s in self._all()):
                return None  # its name is not known before it is loaded
            return _unavailable(f"The model {model} is not served any more.")
        if slot.state is not InstanceState.ERROR or (slot.configured and not slot.was_loaded):
            return None  # what is wrong with a model of the settings ends the server, not the jobs
        why = "" if slot.failure is None else f" {slot.shown(slot.failure)}"
        return _unavailable(f"The model {model} could not be loaded.{why}")

    def look(self, waiting: Sequence[Job]) -> Sequence[Job]:
        """Load again what jobs wait for; return the jobs that may be handed out now."""
        return self._placing.look(waiting)

    # ---- loading

    def _check_free(self, uid: str) -> None:
        there = self._slots.get(uid)
        taken = there is not None and there.state is not InstanceState.ERROR
        if taken or uid in dict(self._settings.aliases):
            raise ModelExists(
                f"The name {uid!r} is taken; terminate that model, or give another model_uid.",
                param="model_uid",
            )

    def _add(self, slot: Slot) -> Slot:
        self._slots[slot.uid] = slot
        return slot

    def _lost(self, slot: Slot, lost: Lost) -> None:
        self._roster.retire(slot.uid)
        early = None
        if slot.state is not InstanceState.READY and slot.failure is None:
            message = f"The worker ended with status {lost.status} while it loaded its model; see the log."
            early = Failure(code=WorkerLost.code, message=message)
        if lost.final:
            self._fail(slot, slot.failure or early or _unavailable("Its worker ended."))
        else:
            slot.lost(early)

    def _fail(self, slot: Slot, failure: Failure) -> None:
        """Give a model up; what it held is free again."""
        if slot.configured and not slot.was_loaded:
            self.failure = failure
            self.hopeless.set()
        if slot.fresh:
            self._moorings.spawn(self._strike_out(slot))
        self._moorings.clear(slot, InstanceState.ERROR, "failed", failure)
        self.on_change()

    async def _strike_out(self, slot: Slot) -> None:
        """Forget a launch that failed, unless it was tried again by now, whose row is in its place."""
        if self._slots.get(slot.uid) is slot:
            await self._forget(slot.uid)

    async def _forget(self, uid: str) -> None:
        await self._off(self._book.forget, uid)

    # ---- ends

    async def _end(self, slot: Slot) -> Instance:
        """End a model for good: its row goes, or nothing changes; then nobody gets it; then its process."""
        if not slot.configured:
            await self._forget(slot.uid)
        self._drop(slot)
        await self._moorings.clear(slot, InstanceState.TERMINATED, "terminated")
        self.on_change()
        return slot.view()

    def _drop(self, slot: Slot) -> None:
        if self._slots.get(slot.uid) is slot:
            del self._slots[slot.uid]

    def _find(self, uid: str) -> Slot:
        try:
            return self._slots[uid]
        except KeyError:
            known = ", ".join(self._slots) or "none"
            raise ModelNotFound(
                f"There is no model {uid[:80]!r}; there are: {known}.", param="model"
            ) from None

    def _all(self) -> Sequence[Slot]:
        return tuple(self._slots.values())


def _unavailable(message: str) -> Failure:
    return Failure(code=ModelNotAvailable.code, message=message)


def _name_taken(name: str) -> Failure:
    message = f"Its checkpoint is called {name}, and so is another model; give it a name with --model-name."
    return Failure(code=CheckpointError.code, message=message)
