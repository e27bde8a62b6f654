"""One launched model as the launcher sees it: what was asked, how its loading goes, where its worker is.

Changed on the event loop only; it decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from vitascope.card import ModelCard
from vitascope.config import Settings
from vitascope.jobs.job import Failure
from vitascope.launch import Instance, InstanceState, LaunchSpec
from vitascope.scheduler.room import Footprint
from vitascope.wire import Loading, Measured

# What a stage is called, and the share of the whole progress at which it begins and ends.
_STAGES = {"download": ("downloading", 0.02, 0.5), "load": ("loading weights", 0.52, 0.98)}
_MEASURED = 0.5


@dataclass(slots=True, eq=False)
class Slot:
    """One model. `fresh`: it was launched while this server runs and has never been loaded.

    `named`: its uid is settled; the default model may be named by its checkpoint. `placed`: it has room on
    its device, taken or set aside. `asking` is its worker while that waits for room.
    """

    uid: str
    spec: LaunchSpec
    settings: Settings
    created_at: float
    configured: bool = False
    fresh: bool = False
    named: bool = True
    state: InstanceState = InstanceState.LOADING
    stage: str = "starting"
    progress: float = 0.0
    card: ModelCard | None = None
    failure: Failure | None = None
    berth: str | None = None
    asking: str | None = None
    footprint: Footprint | None = None
    placed: bool = False
    loaded_at: float = 0.0  # on the monotonic clock
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # it is not being loaded
    decided: asyncio.Event = field(default_factory=asyncio.Event)  # whether it had room at first

    @property
    def was_loaded(self) -> bool:
        """Whether it was ever loaded since the server started."""
        return self.card is not None

    def on_device_of(self, other: Slot) -> bool:
        """Whether both were measured, on the same device."""
        mine, its = self.footprint, other.footprint
        return mine is not None and its is not None and mine.device == its.device

    def begin(self, berth: str, stage: str = "starting") -> None:
        """Note that a worker is being started for it."""
        self.berth, self.asking = berth, None
        self.state, self.stage, self.progress = InstanceState.LOADING, stage, 0.0
        self.settled.clear()

    def advance(self, event: Loading) -> None:
        """Note how far its worker is."""
        name, begin, end = _STAGES.get(event.stage, (event.stage, self.progress, self.progress))
        self.stage = name
        self.progress = max(self.progress, begin + (end - begin) * event.progress)

    def measured(self, worker: str, event: Measured) -> None:
        """Note what it will take, and that its worker waits."""
        self.asking = worker
        self.footprint = Footprint(
            device=event.device,
            weights_bytes=event.weights_bytes,
            working_bytes=event.working_bytes,
            free_bytes=event.free_bytes,
        )
        self.stage, self.progress = "waiting for memory", max(self.progress, _MEASURED)

    def go_on(self) -> None:
        """Note that its worker may load the weights."""
        self.asking, self.placed, self.stage = None, True, "loading weights"
        self.decided.set()

    def loaded(self, card: ModelCard) -> None:
        """Note that it takes requests."""
        self.uid, self.named, self.fresh = card.name, True, False
        self.card, self.failure, self.loaded_at = card, None, time.monotonic()
        self._settle(InstanceState.READY, "ready", progress=1.0)

    def lost(self, failure: Failure | None) -> None:
        """Note that its worker ended and another is started."""
        self.begin(self.berth or "", "starting again")
        self.failure = failure or self.failure

    def leave(self, state: InstanceState, stage: str, failure: Failure | None = None) -> str | None:
        """Note that it has no worker any more; return the berth that it had."""
        berth, self.berth, self.asking, self.placed = self.berth, None, None, False
        self.failure = failure
        self._settle(state, stage, progress=0.0)
        return berth

    def _settle(self, state: InstanceState, stage: str, *, progress: float) -> None:
        self.state, self.stage, self.progress = state, stage, progress
        self.settled.set()
        self.decided.set()

    def shown(self, failure: Failure) -> str:
        """Return a failure's message without the operator's paths."""
        names = {self.settings.model_path: self.uid}
        names |= {str(adapter.path): adapter.name for adapter in self.settings.adapters}
        names |= {str(path): path.name for path in self.settings.replaced.values()}
        message = failure.message
        for path in [path for path in names if "/" in path]:
            message = message.replace(path, names[path])
        return message

    def view(self) -> Instance:
        """Return how it stands."""
        return Instance(
            uid=self.uid,
            spec=self.spec,
            state=self.state,
            created_at=self.created_at,
            progress=self.progress,
            stage=self.stage,
            card=self.card,
            error=None if self.failure is None else self.shown(self.failure),
            error_code=None if self.failure is None else self.failure.code,
            configured=self.configured,
        )
