"""Whether a worker comes on: what it owes a sign of life for, and how long there was none.

A sign is an event that the device's own thread sends between two quanta of work; what the threads beside it
send (a saved state, a finished file) is none, as they live on when the device hangs.
"""

from __future__ import annotations

from vitascope.wire import (
    Cancelled,
    Command,
    Event,
    Failed,
    Finished,
    Generate,
    Loading,
    Measured,
    Parked,
    Proceed,
    Progress,
    Ready,
    Started,
    Warned,
)


class Pulse:
    """One worker's. Time passes only while the server looks on, so that a pause of its own kills nobody."""

    def __init__(self) -> None:
        self.silent_s = 0.0
        self._loads = True
        self._jobs: set[str] = set()

    def passed(self, seconds: float) -> None:
        """Take in that time went by; it counts if the worker has something to do."""
        if self._loads or self._jobs:
            self.silent_s += seconds

    def sent(self, command: Command) -> None:
        """Take in that the worker was given something to do."""
        match command:
            case Generate():
                self._jobs.add(command.job_id)
                self.silent_s = 0.0
            case Proceed():
                self._loads = True
                self.silent_s = 0.0

    def heard(self, event: Event) -> None:
        """Take in what the worker said."""
        match event:
            case Loading() | Started() | Warned() | Progress():
                self.silent_s = 0.0
            case Measured() | Ready():  # it waits for a word, or for work
                self._loads = False
                self.silent_s = 0.0
            case Finished() | Failed() | Cancelled() | Parked():
                self._jobs.discard(event.job_id)
