"""One worker process, seen from the server: started, spoken with over a private socket, ended.

The child inherits one end of a socketpair; nothing listens anywhere. When this end closes, for whatever
reason, the child exits by itself.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from vitascope.config import Settings
from vitascope.config.processes import worker_environment
from vitascope.config.settings import SECRETS
from vitascope.wire import Command, Event, ReceiveBuffer, decode_event, encode

WORKER = (sys.executable, "-P", "-m", "vitascope.worker.main")
READ_BYTES = 1 << 16
KILL_PATIENCE_S = 30.0

log = logging.getLogger(__name__)


class WorkerProcess:
    """A running child. Make one with `spawn`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def spawn(cls, settings: Settings, command: Sequence[str] = WORKER) -> WorkerProcess:
        """Start `vitascope.worker.main`, in a session of its own: a Ctrl-C should reach the server alone."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(*command, "--fd", str(theirs.fileno())),
                stdin=asyncio.subprocess.PIPE,
                env=worker_environment(settings),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        await _write_settings(process, settings)
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def send(self, command: Command) -> None:
        """Send a command; if the child is gone that is learned from the end of `events`."""
        if not self._writer.is_closing():
            self._writer.write(encode(command))

    async def events(self) -> AsyncIterator[Event]:
        """Yield what the child says until it closes its end. Raises `WireError` if it speaks nonsense."""
        received = ReceiveBuffer()
        while data := await self._read():
            for body in received.feed(data):
                yield decode_event(body)

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except ConnectionError:
            return b""

    def kill(self) -> None:
        """Kill the child, whatever it does, and hear no more of it."""
        self._writer.close()
        if self._process.returncode is None:
            self._process.kill()

    async def end(self, grace_s: float) -> int:
        """Make sure that the child is gone (close the socket, wait, terminate, kill); return its status.

        One that a driver holds in the kernel cannot be waited for: it is left to its fate after a while.
        """
        self._writer.close()
        for signal_it in (None, self._process.terminate, self._process.kill):
            if signal_it is not None and self._process.returncode is None:
                signal_it()
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    return await self._process.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_PATIENCE_S):
                return await self._process.wait()
        log.error("process %d was killed and does not end; what it holds of its device is not free", self.pid)
        return -signal.SIGKILL


async def _write_settings(process: asyncio.subprocess.Process, settings: Settings) -> None:
    """Hand over the settings on stdin, without the secrets: a worker has no use for them."""
    assert process.stdin is not None  # asked for with PIPE
    process.stdin.write(settings.model_dump_json(exclude=set(SECRETS)).encode())
    process.stdin.close()
    try:
        await process.stdin.wait_closed()
    except ConnectionError:
        return  # it died at once; the end of `events` tells
