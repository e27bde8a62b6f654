"""The way of a model from its name to the device: told as it goes, and halted until there is room for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Lock

import torch

from vitascope import wire
from vitascope.config import Settings
from vitascope.config.model_source import ModelSource
from vitascope.engine.free_memory import device_name, free_bytes
from vitascope.engine.load import load_family, pick_placement
from vitascope.engine.plan import Estimate, needs_of
from vitascope.models.family import Family
from vitascope.weights.checkpoint import Checkpoint
from vitascope.weights.find import find_model
from vitascope.worker.channel import Line
from vitascope.worker.downloads import DownloadLog

SIGN_OF_LIFE_S = 10.0  # a percent of a large download takes long; the server kills what makes no headway


def load_model(settings: Settings, line: Line) -> Family | None:
    """Find, measure and load the model of the settings; None if told to stop before it was loaded.

    Raises:
        CheckpointError: there is no such model, or it cannot be used.
        ConfigurationError: a device or dtype that is not known or not there.

    """
    told, log = Told(line.send), DownloadLog()

    def downloaded(done: int, total: int) -> None:
        log(done, total)
        told("download", done, total)

    # Before a download of hours.
    placement = pick_placement(settings.device, settings.asked_dtype, settings.vae_dtype)
    source = settings.model_source
    root = find_model(source, downloaded)
    name = settings.model_name or source.name
    checkpoint = Checkpoint.open(root, name, replaced=source.replaced)
    needs = needs_of(checkpoint, placement)
    if not _told_to_go_on(line, lambda: _measured(needs, placement.device)):
        return None
    return load_family(
        ModelSource(root, replaced=source.replaced),
        device=settings.device,
        dtype=settings.asked_dtype,
        vae_dtype=settings.vae_dtype,
        name=name,
        on_load=lambda _part, done, total: told("load", done, total),
        adapters=settings.adapters,
    )


class Told:
    """Tells the server how far a stage is: each whole percent, and slow headway too. From any thread."""

    def __init__(
        self, send: Callable[[wire.Event], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._clock = clock
        self._last: tuple[str, int] | None = None
        self._told_at = -math.inf
        self._lock = Lock()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell, if there is something new; called whenever there is some headway."""
        percent, now = 100 * done // max(total, 1), self._clock()
        with self._lock:
            if self._last == (stage, percent) and now < self._told_at + SIGN_OF_LIFE_S:
                return
            self._last, self._told_at = (stage, percent), now
        self._send(wire.Loading(stage=stage, progress=percent / 100))


def _told_to_go_on(line: Line, measured: Callable[[], wire.Measured]) -> bool:
    """Say what is needed and wait for a word; false if it is to stop."""
    line.send(measured())
    while True:
        for command in line.take(wait=True):
            match command:
                case wire.Proceed():
                    return True
                case wire.Shutdown():
                    return False
                case wire.Measure():
                    line.send(measured())


def _measured(needs: Estimate, where: torch.device) -> wire.Measured:
    return wire.Measured(
        device=device_name(where),
        weights_bytes=needs.weights_bytes,
        working_bytes=needs.working_bytes,
        free_bytes=free_bytes(where),
    )
