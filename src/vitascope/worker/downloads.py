"""A model's download as log lines, since a worker has no terminal."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

_EVERY_PERCENT = 5


class DownloadLog:
    """Called with the bytes that are here and all; logs every further 5 %, and nothing if all were here."""

    def __init__(self) -> None:
        self._told: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Log, if it is time."""
        percent = 100 * done // max(total, 1)
        if self._told is None:
            self._told = percent
        elif percent >= self._told + _EVERY_PERCENT or (percent == 100 and self._told < 100):
            self._told = percent
            log.info("downloading the model: %d %% of %.2f GB", percent, total / 1e9)
