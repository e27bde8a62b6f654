"""A job as the worker's loop has it in hand."""

from __future__ import annotations

import math
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from vitascope import wire
from vitascope.request import GenerationRequest
from vitascope.worker.outputs import Outputs


def _nothing() -> Future[str]:
    done: Future[str] = Future()
    done.set_result("")
    return done


@dataclass(slots=True)
class RunningJob:
    """One job in this worker's hands. `saved` is the last checkpoint, being written or written."""

    command: wire.Generate
    outputs: Outputs
    resuming: bool = False
    watched: bool = False  # somebody wants its previews
    previewed_at: float = -math.inf
    saved_at: float = field(default_factory=time.monotonic)
    saved: Future[str] = field(default_factory=_nothing)

    @property
    def job_id(self) -> str:
        """Which job it is."""
        return self.command.job_id

    @property
    def request(self) -> GenerationRequest:
        """What is asked for."""
        return self.command.request

    @property
    def token(self) -> int:
        """The claim under which every report is made."""
        return self.command.token
