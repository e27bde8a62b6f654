"""Threads for blocking calls, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from vitascope.errors import StoreUnavailable

FIRST_PAUSE_S = 0.125
MAX_PAUSE_S = 2.0

P = ParamSpec("P")
T = TypeVar("T")


class Offload:
    """`await offload(call, ...)` runs a blocking call in one of a few threads and returns what it returns.

    While it is `patient`, a call that the database refuses is made again until it is taken. It may have been
    taken at first and only its answer lost, so that what is done twice has to be harmless.
    """

    def __init__(self, num_threads: int, name: str) -> None:
        self.patient = False
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix=name)

    async def __call__(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` and return what it returns."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._once(partial(call, *args, **kwargs))
            except StoreUnavailable:
                if not self.patient:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    async def _once(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """Return once all calls are done and the threads have ended."""
        self._pool.shutdown(wait=True)

    def abandon(self) -> None:
        """Return at once: no call begins any more, and those that run end unheard."""
        self._pool.shutdown(wait=False, cancel_futures=True)
