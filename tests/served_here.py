"""A whole server in this process, real but for its workers: they are threads, which start in no time.

Nothing else may load a model meanwhile: transformers does so in a way that other threads feel.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import httpx
import pytest

from held_engine import held_engine
from holds import Holds
from vitascope.config import Settings
from vitascope.launch import Instance, LaunchSpec
from vitascope.scheduler.fleet import Fleet
from vitascope.scheduler.process import WORKER, WorkerProcess
from vitascope.server import Server, build
from vitascope.worker.channel import Channel
from vitascope.worker.main import work

PATIENCE_S = 600.0  # a net for what hangs
# The server hangs up after five idle seconds; a client that does so first is never surprised by it.
LIMITS = httpx.Limits(keepalive_expiry=1.0)


class _Thread:
    """A worker's thread, in the words of a process."""

    def __init__(self, settings: Settings, connection: socket.socket) -> None:
        self.pid = os.getpid()
        self.returncode: int | None = None
        self._connection = connection
        self._thread = threading.Thread(target=self._work, args=(settings,), name="worker")
        self._thread.start()

    def _work(self, settings: Settings) -> None:
        with self._connection:
            self._channel = Channel(self._connection, on_closed=self._stop)
            self.returncode = work(settings, self._channel)
            self._connection.shutdown(socket.SHUT_RDWR)

    def _stop(self) -> None:
        self._channel.request_shutdown()

    async def wait(self) -> int:
        await asyncio.to_thread(self._thread.join)
        return self.returncode or 0

    def terminate(self) -> None:
        """It ends by itself once its connection is closed."""

    def kill(self) -> None:
        """Likewise."""


class ThreadWorker(WorkerProcess):
    """A worker that the fleet takes for a process."""

    @classmethod
    async def spawn(cls, settings: Settings, command: Sequence[str] = WORKER) -> Self:
        """Start one."""
        del command
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(_Thread(settings, theirs), reader, writer)  # type: ignore[arg-type]


class Here:
    """A server that runs in a thread; `client` speaks to it over its socket."""

    def __init__(self, server: Server, holds: Holds, loop: asyncio.AbstractEventLoop, url: str) -> None:
        self.server = server
        self.holds = holds
        self.client = httpx.Client(base_url=url, timeout=PATIENCE_S, limits=LIMITS)
        self._loop = loop

    def launch(self, path: str, uid: str) -> Instance:
        """Serve one more model; returns once it is loaded."""
        launcher = self.server.launcher
        self._do(launcher.launch(LaunchSpec(model=path, uid=uid)))
        return self._do(launcher.wait(uid))

    def wait_ready(self) -> None:
        """Return once the first model is loaded."""
        self._do(self._ready())

    async def _ready(self) -> None:
        while not self.server.launcher.ready():
            assert not self.server.launcher.hopeless.is_set(), self.server.launcher.failure
            await asyncio.sleep(0.02)

    def terminate(self, uid: str) -> None:
        """Serve it no more."""
        self._do(self.server.launcher.terminate(uid))

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)


@contextmanager
def served_here(settings: Settings, *, processes: bool = False) -> Iterator[Here]:
    """Run a server as long as the context lasts, its workers threads or `processes`; its model is loaded."""
    holds = Holds(settings.data_dir.with_suffix(".holds"))
    with pytest.MonkeyPatch.context() as patch:
        if processes:
            patch.setattr("vitascope.server.Fleet", partial(Fleet, command=holds.command))
        else:
            patch.setattr("vitascope.scheduler.fleet.WorkerProcess", ThreadWorker)
            patch.setattr("vitascope.worker.main.Engine", held_engine(holds))
        with _running(build(settings), holds) as here:
            yield here


@contextmanager
def _running(server: Server, holds: Holds) -> Iterator[Here]:
    stop, loops = asyncio.Event(), []
    listener = socket.create_server(("127.0.0.1", 0))
    started = threading.Event()

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        started.set()
        await server.run(listener, stop)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="server")
    thread.start()
    assert started.wait(PATIENCE_S)
    here = Here(server, holds, loops[0], f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        here.wait_ready()
        yield here
    finally:
        holds.release()
        here.client.close()
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_S)
        server.close()
        listener.close()
