"""Where a test kills real processes: exactly before or after a call, as `kill -9` from outside would.

A place is `before NAME` or `after NAME`, NAME being a call of the table below. The test arms one; the process
that comes there first disarms it and is killed, or kills its server and waits to end with it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

LOOK_S = 0.01
STORE = ("submit", "claim", "checkpoint", "store_output", "succeed", "cancelled", "requeue", "delete")


class Faults:
    """The armed places of one server and its workers; `folder` is theirs alone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder

    def arm(self, place: str, victim: str = "self") -> None:
        """Kill the process that comes to a place next, or with `victim` of `server` that process's parent."""
        new = self.folder / "new"
        new.write_text(victim)
        new.rename(self.folder / place)

    def is_armed(self, place: str) -> bool:
        """Whether nobody came there yet."""
        return (self.folder / place).exists()

    def disarm(self) -> None:
        """Let all live."""
        for path in self.folder.iterdir():
            path.unlink()

    def strike(self, place: str) -> None:
        """Be killed, if the place is armed."""
        path = self.folder / place
        try:
            victim = path.read_text()
            path.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getppid() if victim == "server" else os.getpid(), signal.SIGKILL)
        while True:  # a worker ends as soon as it hears that its server is gone
            time.sleep(LOOK_S)

    def install_in_worker(self) -> None:
        """Heed the places of files and of what a worker sends."""
        from vitascope.worker.channel import Channel

        self._install_in_files()
        self._around(Channel, "send", lambda _channel, event: f"sending {type(event).__name__}")

    def install_in_server(self) -> None:
        """Heed the places of files, of the store and of launches."""
        from vitascope.jobs.launches import SqlLaunches
        from vitascope.jobs.sql import SqlStore
        from vitascope.scheduler.moorings import Moorings

        self._install_in_files()
        for owner, names in ((SqlStore, STORE), (SqlLaunches, ("remember", "forget")), (Moorings, ("load",))):
            for name in names:
                self._around(owner, name, lambda *_args, name=name, **_kwargs: name)

    def _install_in_files(self) -> None:
        from vitascope.media import artifacts

        self._around(artifacts, "_sync", lambda path: f"syncing {path.suffix[1:] or 'the folder'}")
        pending = artifacts._PendingInFolder
        self._around(pending, "publish", lambda file: f"publishing {file.path.suffix[1:]}")
        self._around(artifacts.FolderArtifacts, "put_content", lambda *_args: "put_content")
        self._around(artifacts.FolderArtifacts, "delete", lambda *_args: "removing a file")

    def _around(self, owner: Any, name: str, place: Callable[..., str]) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def struck(*args: Any, **kwargs: Any) -> Any:
            where = place(*args, **kwargs)
            self.strike(f"before {where}")
            result = original(*args, **kwargs)
            self.strike(f"after {where}")
            return result

        setattr(owner, name, struck)
