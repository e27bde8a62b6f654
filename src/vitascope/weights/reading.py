"""Reading weights: every byte once, hashed on its way into the tensor it belongs to, several files at a time.

Tensors get memory of their own, so that a file replaced later changes nothing that was hashed and loaded.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from threading import Event, Lock
from typing import Any

import torch
from torch import Tensor

from vitascope.errors import CheckpointError
from vitascope.weights.layouts import Stored, WeightFile

OnLoad = Callable[[str, int, int], None]  # component, bytes read of all components, bytes of all
_Tensors = dict[str, Tensor]

_AT_A_TIME = 4
_CHUNK_BYTES = 1 << 20  # hashed while the processor's cache still has it
_STAGE_BYTES = 1 << 23  # what is converted, or moved to the device, at once
_STEPS_TOLD = 200
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _StoppedError(Exception):
    """Another file failed."""


class Reading:
    """What was read of one checkpoint: each file's hash, and how far it is, for whoever watches.

    `on_load` is called from several threads, one at a time; what it raises stops the reading.
    """

    def __init__(self, on_load: OnLoad | None = None) -> None:
        self.total_bytes = 0
        self._on_load = on_load
        self._digests: dict[Path, str] = {}
        self._done = self._told = 0
        self._lock = Lock()

    def tensors(
        self, part: str, files: Sequence[WeightFile], dtypes: Mapping[str, torch.dtype], device: torch.device
    ) -> _Tensors:
        """Read those tensors of a component's files that `dtypes` names, and hash the files.

        Raises:
            CheckpointError: a file ends before its last tensor, or cannot be read.

        """
        stop = Event()
        found: _Tensors = {}
        with ThreadPoolExecutor(min(_AT_A_TIME, len(files))) as pool:
            running = [pool.submit(self._read, part, file, dtypes, device, stop) for file in files]
            try:
                wait(running)
            finally:
                stop.set()  # an interrupt waits for no file's end
        failed = [error for future in running if (error := future.exception()) is not None]
        for error in sorted(failed, key=lambda error: isinstance(error, _StoppedError)):
            raise error
        for future in running:
            found |= future.result()
        return found

    def digest(self, part: str, path: Path) -> str:
        """Return the SHA-256 of a file in hexadecimal; it is read for that only if it was not before.

        Raises:
            CheckpointError: it cannot be read.

        """
        if path not in self._digests:
            file = WeightFile(path, f"{part}/{path.name}", ())
            self._read(part, file, {}, torch.device("cpu"), Event())
        return self._digests[path]

    def _read(
        self,
        part: str,
        file: WeightFile,
        dtypes: Mapping[str, torch.dtype],
        device: torch.device,
        stop: Event,
    ) -> _Tensors:
        known = _blob_digest(file.path)
        with ExitStack() as failing:
            failing.callback(stop.set)
            try:
                with file.path.open("rb", buffering=0) as stream:
                    pump = _Pump(stream, file.shown, stop, lambda moved: self._count(part, moved))
                    pump.hasher = hashlib.sha256() if known is None else None
                    tensors = pump.tensors(file.tensors, dtypes, device)
                    self._digests[file.path] = pump.finish() or known or ""
            except OSError as error:
                raise CheckpointError(f"{file.shown} cannot be read: {error.strerror}.") from None
            failing.pop_all()
        return tensors

    def _count(self, part: str, moved: int) -> None:
        """Add bytes that were read, and tell of them where enough of them came together."""
        with self._lock:
            self._done += moved
            enough = self._done - self._told > self.total_bytes // _STEPS_TOLD
            if self._on_load is not None and (enough or self._done == self.total_bytes):
                self._told = self._done
                self._on_load(part, min(self._done, self.total_bytes), self.total_bytes)


class _Pump:
    """One open file: bytes go forward, into tensors or nowhere, and through the hash if one is wanted."""

    def __init__(self, stream: FileIO, shown: str, stop: Event, moved: Callable[[int], None]) -> None:
        self.hasher: hashlib._Hash | None = None
        self._stream, self._shown, self._stop, self._moved = stream, shown, stop, moved
        self._at = 0
        self._scratch = memoryview(b"")

    def tensors(
        self, stored: Sequence[Stored], dtypes: Mapping[str, torch.dtype], device: torch.device
    ) -> _Tensors:
        """Take the wanted ones, which come in the order of their bytes."""
        found: _Tensors = {}
        for one in stored:
            if one.name in dtypes:
                self._skip_to(one.begin)
                found[one.name] = there = torch.empty(one.shape, dtype=dtypes[one.name], device=device)
                if there.device.type == "cpu" and there.dtype == one.dtype:
                    self._fill(_bytes_of(there))
                else:
                    self._fill_staged(there.view(-1), one.dtype)
        return found

    def finish(self) -> str | None:
        """Go on to the file's end; return the hash of all of it, if one was wanted."""
        self._skip_to(os.fstat(self._stream.fileno()).st_size)
        return None if self.hasher is None else self.hasher.hexdigest()

    def _skip_to(self, begin: int) -> None:
        if self.hasher is None:
            self._moved(begin - self._at)
            self._at = self._stream.seek(begin)
        while self._at < begin:
            self._fill(self._piece(min(_CHUNK_BYTES, begin - self._at)))

    def _fill_staged(self, flat: Tensor, stored: torch.dtype) -> None:
        """Fill a tensor of another dtype or device piece by piece."""
        at_once = _STAGE_BYTES // stored.itemsize
        for begin in range(0, len(flat), at_once):
            piece = flat[begin : begin + at_once]
            staged = self._piece(piece.numel() * stored.itemsize)
            self._fill(staged)
            piece.copy_(torch.frombuffer(staged, dtype=torch.uint8).view(stored))

    def _fill(self, target: memoryview) -> None:
        while target:
            taken = self._take(target[:_CHUNK_BYTES])
            if not taken:
                raise CheckpointError(f"{self._shown} is cut short: it ends at byte {self._at}.")
            target = target[taken:]

    def _take(self, target: memoryview) -> int:
        if self._stop.is_set():
            raise _StoppedError
        taken = self._stream.readinto(target) or 0
        if self.hasher is not None:
            self.hasher.update(target[:taken])
        self._at += taken
        self._moved(taken)
        return taken

    def _piece(self, num_bytes: int) -> memoryview:
        if not self._scratch:
            self._scratch = memoryview(bytearray(_STAGE_BYTES))
        return self._scratch[:num_bytes]


def _blob_digest(path: Path) -> str | None:
    """Return the hash by which a hub cache names a file, if that is where it lies: it spares hashing it."""
    if path.is_symlink():
        stored = path.readlink().name  # what that links to may have another name, where caches share blobs
        if _SHA256.fullmatch(stored):
            return stored
    return None


def _bytes_of(tensor: Tensor) -> memoryview:
    array: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(array)
