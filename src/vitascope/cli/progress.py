"""The bar: stage, steps, pace and time left, on a terminal's stderr."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from vitascope.engine.events import Advanced


class Pace(ProgressColumn):
    """Steps a second, or seconds a step where that is the larger number."""

    def render(self, task: Task) -> Text:
        """Draw the column."""
        return Text(pace(task.finished_speed or task.speed))


def pace(steps_per_s: float | None) -> str:
    """Say how fast steps come."""
    if not steps_per_s:
        return "-- it/s"
    return f"{steps_per_s:.2f} it/s" if steps_per_s >= 1 else f"{1 / steps_per_s:.2f} s/it"


class _Bar:
    """One line on a terminal while its context lasts; nothing where there is no terminal."""

    def __init__(self, console: Console, begin: str, *columns: ProgressColumn) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<7}"),
            BarColumn(),
            *columns,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(begin, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class StepBar(_Bar):
    """Used as a context; `update` is what `Model.generate` calls after each piece of work."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "load", MofNCompleteColumn(), Pace(), TimeRemainingColumn())

    def download(self, done: int, total: int) -> None:
        """Show how much of a hub model is here, in megabytes."""
        mega = 1_000_000
        self._progress.update(self._task, description="MB", completed=done // mega, total=total // mega)

    def load(self, component: str, done: int, total: int) -> None:
        """Show how much of a model's weights is read, in megabytes, and which component; from any thread."""
        mega = 1_000_000
        self._progress.update(
            self._task, description=f"load {component}", completed=done // mega, total=total // mega
        )

    def begin(self) -> None:
        """Go over from loading to generating: from now on steps are counted."""
        self._progress.reset(self._task, description="encode", total=None)

    def update(self, event: Advanced) -> None:
        """Show how far the clip is."""
        self._progress.update(
            self._task, description=event.stage, completed=event.step, total=event.num_steps
        )


class LaunchBar(_Bar):
    """Used as a context; `update` takes what a server says of a model that is being loaded."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "launch", TextColumn("{task.percentage:>3.0f} %"))

    def update(self, instance: dict[str, Any]) -> None:
        """Show how far it is."""
        self._progress.update(
            self._task, description=instance["stage"] or "launch", completed=instance["progress"], total=1.0
        )


class JobBar(_Bar):
    """Used as a context; `update` takes what a server says of a job: its place, step and seconds left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "queued", MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
        self._progress.update(self._task, left="")

    def update(self, status: dict[str, Any]) -> None:
        """Show a `status` event."""
        waiting = status["status"] == "queued"
        eta = "" if status["eta_s"] is None else f"{status['eta_s']:.0f} s left"
        self._progress.update(
            self._task,
            description="queued" if waiting else status["stage"] or "load",
            completed=status["step"],
            total=status["num_steps"] or None,
            left=f"{status['queue_position']} before, {eta}" if waiting and status["queue_position"] else eta,
        )
