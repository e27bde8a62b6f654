"""The worker's end of the wire: a thread of its own reads commands, so that the device never waits for them.

When the server's end closes, this process ends at once: nobody is left to make clips for.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from vitascope.wire import Command, Event, ReceiveBuffer, Shutdown, WireError, decode_command, encode

READ_BYTES = 1 << 16

log = logging.getLogger(__name__)


def end_process() -> None:
    """End this process now, whatever its device is doing."""
    os._exit(1)


class Line(Protocol):
    """What this room asks of a channel."""

    def take(self, *, wait: bool) -> list[Command]:
        """Return the commands that have come, in order; with `wait` at least one."""

    def send(self, event: Event) -> None:
        """Send an event, from any thread; whole, whoever else sends at the same time."""


class Channel:
    """Commands in, in order, and events out, from any thread. `on_closed` runs when the server is gone."""

    def __init__(self, connection: socket.socket, on_closed: Callable[[], None] = end_process) -> None:
        self._connection = connection
        self._on_closed = on_closed
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._sending = threading.Lock()
        threading.Thread(target=self._read, name="channel", daemon=True).start()

    def take(self, *, wait: bool) -> list[Command]:
        """See `Line.take`."""
        commands = [self._inbox.get()] if wait else []
        while True:
            try:
                commands.append(self._inbox.get_nowait())
            except queue.Empty:
                return commands

    def send(self, event: Event) -> None:
        """See `Line.send`."""
        data = encode(event)
        try:
            with self._sending:
                self._connection.sendall(data)
        except OSError:
            self._on_closed()

    def request_shutdown(self) -> None:
        """Behave as if the server had sent `Shutdown`; safe in a signal handler."""
        self._inbox.put(Shutdown())

    def _read(self) -> None:
        received = ReceiveBuffer()
        try:
            while data := self._connection.recv(READ_BYTES):
                for body in received.feed(data):
                    self._inbox.put(decode_command(body))
        except WireError:
            log.exception("the server spoke nonsense")
        except OSError:
            log.info("the connection to the server broke")
        self._on_closed()
