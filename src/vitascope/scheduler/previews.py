"""Previews on their way from workers to whoever watches a job. Nothing is kept; latecomers see the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vitascope.wire import Preview

Listener = Callable[[Preview], None]


class Previews:
    """Listeners by job; `on_demand(job_id, wanted)` tells when a job got its first or lost its last one."""

    def __init__(self, on_demand: Callable[[str, bool], None]) -> None:
        self._listeners: dict[str, list[Listener]] = {}
        self._on_demand = on_demand

    def wanted(self, job_id: str) -> bool:
        """Whether anybody watches this job."""
        return job_id in self._listeners

    def deliver(self, preview: Preview) -> None:
        """Hand a preview to all who watch its job."""
        for listener in list(self._listeners.get(preview.job_id, ())):
            listener(preview)

    @contextmanager
    def watch(self, job_id: str, listener: Listener) -> Iterator[None]:
        """Call `listener` with each preview of a job as long as the context lasts."""
        listeners = self._listeners.setdefault(job_id, [])
        listeners.append(listener)
        if len(listeners) == 1:
            self._on_demand(job_id, True)
        try:
            yield
        finally:
            listeners.remove(listener)
            if not listeners:
                del self._listeners[job_id]
                self._on_demand(job_id, False)
