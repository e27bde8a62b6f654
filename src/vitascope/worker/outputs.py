"""A job's outputs on their way to their files: one is recorded at a time, and they are told of in order.

An output that was stored is never made again, so that none may be told of before those that precede it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace

from vitascope.card import ModelCard
from vitascope.media.artifacts import Artifacts
from vitascope.models.family import Chunk
from vitascope.request import GenerationRequest
from vitascope.wire import StoredFile
from vitascope.worker.recording import Clip, Recording

MAX_WAITING_BYTES = 1 << 28  # of one job: 224 frames of 832x480

Files = tuple[StoredFile, ...]
Tell = Callable[[Files | BaseException], None]


@dataclass(frozen=True, slots=True)
class _Ended:
    """An output whose frames are all there."""

    index: int
    recording: Recording
    files: Future[Files]
    tell: Tell


class Outputs:
    """Takes in the frames of one output after another, from `first` on; for one thread.

    `failure` is the first that befell an output; it is told of in place of the files of all after it.
    """

    def __init__(
        self,
        request: GenerationRequest,
        card: ModelCard,
        artifacts: Artifacts,
        threads: Executor,
        *,
        first: int = 0,
    ) -> None:
        self.failure: BaseException | None = None
        self._request = request
        self._card = card
        self._artifacts = artifacts
        self._threads = threads
        self._lock = threading.Lock()
        self._ended: deque[_Ended] = deque()  # not told of yet
        self._begin(first)

    @property
    def settled(self) -> bool:
        """Whether every output that has ended was told of."""
        return not self._ended

    @property
    def crowded(self) -> bool:
        """Whether so many frames wait to be encoded that no more should be made for now."""
        recordings = [*(ended.recording for ended in self._unsettled()), self._recording]
        return sum(recording.waiting_bytes for recording in recordings) > MAX_WAITING_BYTES

    def add(self, chunk: Chunk) -> None:
        """Take the next frames of the current output in; returns at once."""
        self._recording.add(chunk)

    def end(self, tell: Tell) -> None:
        """Say that all frames of the current output are there; `tell` hears of its files, from any thread."""
        ended = _Ended(self._index, self._recording, self._recording.end(), tell)
        with self._lock:
            self._ended.append(ended)
        self._begin(self._index + 1)
        ended.files.add_done_callback(lambda _: self._settle())

    def abandon(self) -> None:
        """Drop all that is not stored yet."""
        for ended in self._unsettled():
            ended.recording.abandon()
        self._recording.abandon()

    def wait(self) -> None:
        """Return once every output that has ended was told of."""
        wait([ended.files for ended in self._unsettled()])
        self._settle()

    def _begin(self, index: int) -> None:
        self._index = index
        clip = Clip(self._request.output(index), self._card)
        self._recording = Recording(clip, self._artifacts, self._threads)

    def _unsettled(self) -> list[_Ended]:
        with self._lock:
            return list(self._ended)

    def _settle(self) -> None:
        """Tell of the outputs that are next in order and done."""
        with self._lock:
            while self._ended and self._ended[0].files.done():
                self._tell(self._ended[0])
                self._ended.popleft()

    def _tell(self, ended: _Ended) -> None:
        error = ended.files.exception()
        if self.failure is None and error is None:
            ended.tell(tuple(replace(file, output=ended.index) for file in ended.files.result()))
            return
        if error is None:  # stored, but a hole would be before it
            for file in ended.files.result():
                self._artifacts.delete(file.key)
        self.failure = self.failure or error
        assert self.failure is not None
        ended.tell(self.failure)
