"""Calls by the names that their clients gave them: those that run, and the last ones that ended.

A call lives as long as its connection, so that nothing of this outlives the process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vitascope.errors import InvalidRequest

MAX_ENDED = 1000


@dataclass(slots=True)
class Call:
    """One call: the model's name, its job, how far it was when last looked at (0 to 1), seconds it took."""

    model: str
    begun: float
    job_id: str | None = None  # until its pictures are kept
    progress: float = 0.0
    aborted: bool = False
    took_s: float | None = None  # None while it runs


class Calls:
    """All named calls of this process; for the event loop alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running: dict[str, Call] = {}
        self._ended: OrderedDict[str, Call] = OrderedDict()

    @contextmanager
    def running(self, name: str | None, model: str) -> Iterator[Call]:
        """Begin a call; it has ended when the context is left. One without a name is never found.

        Raises:
            InvalidRequest: a call of that name runs.

        """
        call = Call(model, self._clock())
        if name is None:
            yield call
            return
        if name in self._running:
            raise InvalidRequest(
                f"A call with the request_id {name[:80]!r} runs already; give each its own.",
                param="request_id",
            )
        self._running[name] = call
        try:
            yield call
        finally:
            call.took_s = self.elapsed_s(call)
            self._ended[name] = self._running.pop(name)
            self._ended.move_to_end(name)
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)

    def find(self, name: str) -> Call | None:
        """Return the call of that name, the running one rather than one that ended."""
        return self._running.get(name) or self._ended.get(name)

    def elapsed_s(self, call: Call) -> float:
        """Return the seconds since a call began, or those that it took."""
        return self._clock() - call.begun if call.took_s is None else call.took_s
