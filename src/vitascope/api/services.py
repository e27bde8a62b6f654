"""What the api is given: the parts that answer requests, and one way to call the blocking ones.

The server builds a `Services` once; nothing in this room builds, starts or stops any of its parts.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol, TypeVar

from vitascope.api.fetcher import Fetcher
from vitascope.card import ModelCard
from vitascope.config import Settings
from vitascope.jobs.changes import Changes
from vitascope.jobs.job import Job
from vitascope.jobs.store import Store
from vitascope.media.artifacts import Artifacts
from vitascope.wire import Preview

P = ParamSpec("P")
T = TypeVar("T")

STORE_THREADS = 4  # SQLite answers in well under a millisecond; more threads would only queue on its lock

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


class Inputs(Protocol):
    """What the api asks of the keeper of pictures; blocking."""

    def measure(self, data: bytes, *, param: str) -> tuple[int, int]:
        """Return a picture's width and height as it would be shown. Raises `InvalidMedia`."""

    def keep(self, data: bytes, *, width: int, height: int, resize_mode: str, param: str) -> str:
        """Check, decode, fit to the size and store a picture; return its key. Raises `InvalidMedia`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The api's parts. `pool` runs the blocking calls, so that the event loop never waits for a disk.

    Once `stopping` is set, calls that wait for a job end as soon as that job is notified of.
    """

    settings: Settings
    store: Store
    artifacts: Artifacts
    inputs: Inputs
    fetcher: Fetcher
    changes: Changes
    scheduling: Scheduling
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="api-store")
    )

    stopping: threading.Event = field(default_factory=threading.Event)

    async def off_loop(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in the api's own threads and return what it returns."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, functools.partial(call, *args, **kwargs))

    def close(self) -> None:
        """Let the api's threads end once their calls are done."""
        self.pool.shutdown(wait=True)
