"""The composition root: builds store, fleet, dispatcher and app, and runs them as one server."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

from vitascope.api.app import create_app
from vitascope.api.fetcher import Fetcher, Policy
from vitascope.api.services import Services
from vitascope.config import Settings
from vitascope.config.sources import idle_variables
from vitascope.errors import CheckpointError, ConfigurationError, StoreUnavailable
from vitascope.jobs.changes import Changes
from vitascope.jobs.retention import Sweeper
from vitascope.jobs.sql import SqlStore
from vitascope.media.artifacts import FolderArtifacts
from vitascope.media.clip_decoding import Limits
from vitascope.media.clips import Clips
from vitascope.media.inputs import Pictures
from vitascope.scheduler.dispatcher import Dispatcher
from vitascope.scheduler.fleet import Fleet
from vitascope.scheduler.launcher import Launcher
from vitascope.scheduler.roster import Roster

PARK_GRACE_S = 8.0  # parking waits for the end of a step
HTTP_GRACE_S = 2  # for answers that are being sent; streams and waits are cut after it
KEEP_ALIVE_S = 75  # clients and proxies (httpx 5 s, nginx 60 s) close first: no request meets a closing line
SWEEP_INTERVAL_S = 60.0
BACKLOG = 2048

log = logging.getLogger(__name__)


class _Http(uvicorn.Server):
    """uvicorn without its signal handlers: they would end the process before jobs are parked."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@dataclass(frozen=True, slots=True)
class Server:
    """All parts of one server."""

    settings: Settings
    services: Services
    store: SqlStore
    fleet: Fleet
    launcher: Launcher
    dispatcher: Dispatcher
    sweeper: Sweeper
    app: FastAPI

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve on a bound socket until `stop` is set, then park what runs.

        Raises:
            CheckpointError: a model of the settings could not be loaded.

        """
        await asyncio.to_thread(self.sweeper.drop_unheard)
        await self.dispatcher.recover()
        await self.launcher.start()
        http = _Http(_http_config(self.app))
        dispatching = asyncio.create_task(self.dispatcher.run())
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        others: list[asyncio.Task[Any]] = [
            asyncio.create_task(wait) for wait in (self._sweep(), stop.wait(), self._hopeless())
        ]
        await asyncio.wait([dispatching, serving, *others], return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping: running jobs are parked and go on at the next start")
        http.should_exit = True
        await asyncio.to_thread(self._end_waits)
        await self._park(dispatching)
        await serving
        await _cancel([*others, dispatching])

    def close(self) -> None:
        """Release threads and the database; after `run`."""
        self.dispatcher.close()
        self.services.close()  # the app does it too, if it got as far as starting
        self.store.close()

    async def _park(self, dispatching: asyncio.Task[None]) -> None:
        """Let the workers save what runs, and write down what they say; unless the dispatcher is broken."""
        self.dispatcher.stop_intake()
        await self.launcher.close()
        await self.fleet.stop(PARK_GRACE_S)
        drained = asyncio.create_task(self.dispatcher.drain())
        await asyncio.wait([dispatching, drained], return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()

    def _end_waits(self) -> None:
        """Have those told at once who wait for a clip or follow a job, rather than cut off a little later."""
        self.services.stopping.set()
        with suppress(StoreUnavailable):
            for job in (*self.store.waited_for(), *self.store.running(), *self.store.waiting()):
                self.services.changes.notify(job.id)

    async def _sweep(self) -> None:
        while True:
            try:
                _check_there(self.settings)
                await asyncio.to_thread(self.store.renew)
                await asyncio.to_thread(self.sweeper.sweep)
            except (StoreUnavailable, OSError) as error:  # a disk or database that may be there again
                log.warning("nothing is swept now: %s", error)
            await asyncio.sleep(_sweep_interval_s(self.settings))

    async def _hopeless(self) -> None:
        await self.launcher.hopeless.wait()
        failure = self.launcher.failure
        raise CheckpointError(failure.message if failure is not None else "The model cannot be loaded.")


def build(settings: Settings) -> Server:
    """Make all parts of a server; nothing runs yet."""
    settings.check_exposure()
    changes = Changes()
    artifacts = FolderArtifacts(settings.artifacts_dir)
    store = SqlStore(settings.store_url, retention_s=settings.retention_s, on_change=changes.notify)
    roster = Roster()
    fleet = Fleet(hang_after_s=settings.hang_after_s, slowest_s=roster.slowest_s)
    launcher = Launcher(settings, store.launches, fleet, roster)
    dispatcher = Dispatcher(store, artifacts, fleet, launcher, roster, max_attempts=settings.max_attempts)
    services = Services(
        settings=settings,
        store=store,
        artifacts=artifacts,
        inputs=Pictures(artifacts, settings.max_input_pixels),
        clips=Clips(artifacts, Limits(settings.max_input_pixels, settings.max_input_frames)),
        fetcher=Fetcher(Policy.of(settings)),
        changes=changes,
        scheduling=dispatcher,
        launching=launcher,
    )
    sweeper = Sweeper(store, artifacts)
    return Server(settings, services, store, fleet, launcher, dispatcher, sweeper, create_app(services))


def serve(settings: Settings, on_listening: Callable[[str], None] = log.info) -> None:
    """Serve until SIGTERM or SIGINT; `on_listening` is told the address once connections are accepted.

    Raises:
        ConfigurationError: the address or the data folder cannot be used.
        CheckpointError: a model of the settings could not be loaded.

    """
    settings.check_exposure()
    for name in idle_variables():
        log.info("%s is set and has no effect here: files need no such limit", name)
    with _sole_use(settings), _bound(settings) as listener:
        server = build(settings)
        try:
            asyncio.run(_run_until_signal(server, listener, on_listening))
        finally:
            server.close()


async def _run_until_signal(
    server: Server, listener: socket.socket, on_listening: Callable[[str], None]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    on_listening(_url(listener))  # only now: whoever reads the address may signal at once
    await server.run(listener, stop)


def _http_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,  # our own logging stands
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=HTTP_GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    """End the tasks; what one of them died of is raised."""
    dead = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in dead:
        task.result()


@contextmanager
def _sole_use(settings: Settings) -> Iterator[None]:
    """Hold the data folder; two servers on one would run each other's jobs."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (settings.data_dir / "server.lock").open("w")
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {settings.data_dir} cannot be used: {error.strerror}."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another server uses the data folder {settings.data_dir}; stop it, or choose another."
            ) from None
        yield


def _check_there(settings: Settings) -> None:
    """Raise `ConfigurationError` once the data folder is gone: nothing can be kept any more."""
    if not settings.artifacts_dir.is_dir():
        raise ConfigurationError(f"The data folder {settings.data_dir} is gone; the server cannot go on.")


@contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}. Choose another."
        ) from None
    with listener:
        # Connections inherit it. asyncio sets it only on sockets whose protocol number is spelled out, and
        # without it an answer's second packet waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _sweep_interval_s(settings: Settings) -> float:
    kept = settings.retention_s
    return SWEEP_INTERVAL_S if kept is None else min(SWEEP_INTERVAL_S, max(1.0, kept / 4))
