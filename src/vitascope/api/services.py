"""What the api is given: the parts that answer requests, and one way to call the blocking ones.

The server builds a `Services` once; nothing in this room builds, starts or stops any of its parts.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from vitascope.api.fetcher import Fetcher
from vitascope.card import ModelCard
from vitascope.config import Settings
from vitascope.jobs.changes import Changes
from vitascope.jobs.job import Job
from vitascope.jobs.store import Store
from vitascope.launch import Instance, LaunchSpec
from vitascope.media.artifacts import Artifacts
from vitascope.media.clip_decoding import Facts, Fit
from vitascope.scheduler.offload import Offload
from vitascope.wire import Preview

STORE_THREADS = 4  # SQLite answers in well under a millisecond; more threads would only queue on its lock
DECODING_THREADS = 2  # clips being decoded; more would take the processor from everything else

PreviewListener = Callable[[Preview], None]


class Scheduling(Protocol):
    """What the api asks of the scheduler's side.

    Every call answers at once, from memory. `eta_s` and `wake` come from the api's store threads, the others
    from the event loop.
    """

    def ready(self) -> bool:
        """Whether a worker has its model loaded and takes jobs now."""

    def trouble(self) -> str | None:
        """Why no worker is ready, in a sentence that is safe to show; None while all is well or starting."""

    def cards(self) -> Sequence[ModelCard]:
        """Return the cards of the served models, the default one first; kept while a worker restarts."""

    def eta_s(self, job: Job) -> float | None:
        """Seconds until an unfinished job is done, its wait included; None when nobody can tell yet."""

    def wake(self) -> None:
        """Look at the store soon: a job was submitted, cancelled or deleted."""

    def watch_preview(self, job_id: str, listener: PreviewListener) -> AbstractContextManager[None]:
        """Call `listener` on the event loop with each preview of a job for as long as the context lasts."""


class Launching(Protocol):
    """Which models are served, and the ways to change that while the server runs. All on the event loop.

    A uid is the name by which requests name the model. The models of the settings are listed too
    (`configured`); terminating one of those lasts until the server starts again. What is launched is written
    down before `launch` returns and launched again when the server starts; it is forgotten by `cancel`, by
    `terminate`, and when its very first load fails.

    The operator's rule on who may launch what (`allow_launch`, `launchable`) is checked in here, so that no
    route can forget it: `launch`, `cancel` and `terminate` raise `LaunchForbidden` (403).
    """

    def instances(self) -> Sequence[Instance]:
        """Return all models, the default one first: loading, ready, unloaded, and those that failed."""

    def instance(self, uid: str) -> Instance:
        """Return one. Raises `ModelNotFound` (404); terminated and cancelled ones are unknown."""

    async def launch(self, spec: LaunchSpec) -> Instance:
        """Begin to load a model and return it as LOADING at once; `wait` tells how it ends.

        A model that stands as ERROR is replaced by a launch under its uid.

        Raises:
            LaunchForbidden: the operator does not allow it (403).
            ModelExists: the uid is taken by a model or an alias (400).
            InvalidRequest: an option or a uid that will not do (400).

        """

    async def wait(self, uid: str) -> Instance:
        """Return a model once it is READY (or UNLOADED).

        Raises:
            LaunchFailed: it cannot be loaded; the message says why (400). It stays listed as ERROR.
            DoesNotFit: there is no room beside the others (503, trying again is of no use); listed as ERROR.
            LaunchCancelled: it was cancelled or terminated meanwhile, or the server stops (499).
            ModelNotFound: no such uid (404).

        """

    async def cancel(self, uid: str) -> Instance:
        """Give up loading a model: its process ends and it is forgotten. Returns it as TERMINATED.

        Raises:
            ModelNotFound: no such uid (404).
            InvalidRequest: it is not loading; `terminate` ends a loaded one (400).

        """

    async def terminate(self, uid: str) -> Instance:
        """End a model in whatever state, at once; returns it as TERMINATED when its memory is free.

        Its waiting and running jobs fail with the code `model_not_available`; finished ones stay.

        Raises:
            ModelNotFound: no such uid (404).

        """


class Inputs(Protocol):
    """What the api asks of the keeper of pictures; blocking."""

    def measure(self, data: bytes, *, param: str) -> tuple[int, int]:
        """Return a picture's width and height as it would be shown. Raises `InvalidMedia`."""

    def keep(self, data: bytes, *, width: int, height: int, resize_mode: str, param: str) -> str:
        """Check, decode, fit to the size and store a picture; return its key. Raises `InvalidMedia`."""


class SourceClips(Protocol):
    """What the api asks of the keeper of clips; blocking. A source is bytes, or a stored file's key."""

    def measure(self, source: bytes | str, *, param: str) -> Facts:
        """Tell what a clip is. Raises `InvalidMedia`, `NotFound`."""

    def keep(self, source: bytes | str, fit: Fit, *, param: str) -> str:
        """Bring a clip to what `fit` says and store it; return its key. Raises `InvalidMedia`, `NotFound`."""

    def keep_last_frame(self, key: str) -> str:
        """Store a kept clip's last frame as a picture; return its key. Raises `NotFound`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The api's parts. `await off_loop(call, ...)` runs a blocking call in one of the api's own threads.

    `await decoding(call, ...)` does so with what may take minutes of a processor, so that all else goes on.

    Once `stopping` is set, calls that wait for a job end as soon as that job is notified of. `errands` are
    what is still to be done for calls that were answered.
    """

    settings: Settings
    store: Store
    artifacts: Artifacts
    inputs: Inputs
    clips: SourceClips
    fetcher: Fetcher
    changes: Changes
    scheduling: Scheduling
    launching: Launching
    off_loop: Offload = field(default_factory=lambda: Offload(STORE_THREADS, "api-store"))
    decoding: Offload = field(default_factory=lambda: Offload(DECODING_THREADS, "api-clips"))
    stopping: threading.Event = field(default_factory=threading.Event)
    errands: set[asyncio.Task[None]] = field(default_factory=set)

    def close(self) -> None:
        """Let the api's threads end once their calls are done."""
        self.off_loop.close()
        self.decoding.abandon()  # a clip may take minutes
