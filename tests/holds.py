"""Where a test stops real workers: between two steps of a job, or before they load.

What must happen while a job runs is then tried while it surely does, however fast or slow the machine is.
The test and the workers speak through files in a folder, so that it works for threads and processes alike.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_S = 0.01  # between two looks of a worker that is held
_HELD_WORKER = Path(__file__).with_name("held_worker.py")


class Holds:
    """The two places of one server's workers; `folder` is theirs alone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._step, self._loading = folder / "step", folder / "loading"

    @property
    def command(self) -> tuple[str, ...]:
        """What starts a worker that heeds these."""
        return (sys.executable, str(_HELD_WORKER), str(self.folder))

    @property
    def step(self) -> int | None:
        """The step past which no job gets now; None if none is held."""
        try:
            return int(self._step.read_text())
        except FileNotFoundError:
            return None

    @property
    def is_loading_held(self) -> bool:
        """Whether workers that start wait before they do anything."""
        return self._loading.exists()

    def at(self, step: int) -> None:
        """Let every job come to this step, counted through its outputs, and no further."""
        new = self.folder / "new"
        new.write_text(str(step))
        new.rename(self._step)

    def release(self) -> None:
        """Let all go on."""
        self._step.unlink(missing_ok=True)
        self._loading.unlink(missing_ok=True)

    @contextmanager
    def held(self, step: int) -> Iterator[None]:
        """Hold jobs at a step for as long as the context lasts."""
        self.at(step)
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def loading_held(self) -> Iterator[None]:
        """Hold workers that are started before they load, for as long as the context lasts."""
        self._loading.touch()
        try:
            yield
        finally:
            self.release()
