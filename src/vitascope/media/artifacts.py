"""Where files live: pictures that requests name, checkpoints, finished clips.

Every name is made here, random or from the content's hash, and checked before a disk is touched; a file is
visible under its key only when all of it is on the disk. Who refers to a key is not known here. No clock of
the day is asked, so that neither a machine that sleeps nor a clock that is set takes a file away too early.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, Protocol

from vitascope.errors import NotFound, StorageFailed

GIVEN_S = 3600.0  # how long whoever was given a key may take until a job names it

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CLOSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO})
_SUFFIX = re.compile(r"[a-z0-9]{1,12}")
_KEY = re.compile(r"(?:[0-9a-f]{32}|[0-9a-f]{64})\.[a-z0-9]{1,12}")  # random | sha256 of the content

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """A committed file: its key, its size and the SHA-256 of its bytes (hexadecimal)."""

    key: str
    size_bytes: int
    sha256: str


class PendingFile(Protocol):
    """A file being written; nobody sees it before `commit`."""

    @property
    def path(self) -> Path:
        """Where to write, on a local disk."""

    def commit(self) -> Stored:
        """Make the file durable and visible under its key; once only."""

    def commit_as(self, sha256: str) -> str:
        """Do the same under a hash that names what it holds, and return the key; once only.

        A file that is there already under that name is left as it is.
        """


class Artifacts(Protocol):
    """A flat store of files; all calls block. Suffixes come without a dot."""

    def new_file(self, suffix: str) -> AbstractContextManager[PendingFile]:
        """Begin a file with a random key; it is removed if the context ends without a commit."""

    def put(self, data: bytes, suffix: str) -> str:
        """Store bytes under a random key and return the key."""

    def put_content(self, data: bytes, suffix: str) -> str:
        """Store bytes under their SHA-256 and return the key; equal bytes are kept once.

        However long they were there before, `remove_stray` does not take them for a while.
        """

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading, seekable. Raises `NotFound`."""

    def size(self, key: str) -> int:
        """Return a file's size in bytes. Raises `NotFound`."""

    def delete(self, key: str) -> None:
        """Remove a file; one that is gone already is no error."""

    def remove_stray(self, key: str) -> bool:
        """Remove a file that no job knows, unless its key was given out lately; return whether it is gone."""

    def keys(self) -> Iterator[str]:
        """Yield the keys of all committed files, in no particular order."""


class FolderArtifacts:
    """Artifacts in one folder of a local or shared disk; several processes may use it at once.

    The one that removes strays is the one that is given content: the server. `ticks` is the monotonic clock.
    """

    def __init__(self, root: Path, ticks: Callable[[], float] = time.monotonic) -> None:
        self.root = root
        self._pending = root / "pending"
        self._pending.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._given = _Given(ticks)

    @contextmanager
    def new_file(self, suffix: str) -> Iterator[_PendingInFolder]:
        """Begin a file with a random key; it is removed if the context ends without a commit."""
        with self._begin(_random_key(suffix)) as pending:
            yield pending

    def put(self, data: bytes, suffix: str) -> str:
        """Store bytes under a random key and return the key."""
        return self._put(data, _random_key(suffix))

    def put_content(self, data: bytes, suffix: str) -> str:
        """Store bytes under their SHA-256 and return the key; equal bytes are kept once."""
        key = content_key(data, suffix)
        return key if self._is_there(key) else self._put(data, key)

    def path(self, key: str) -> Path:
        """Return where a committed file lies; only a folder can tell. Raises `NotFound`."""
        path = self._locate(key)
        if not path.is_file():
            raise _missing()
        return path

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading, seekable. Raises `NotFound`."""
        try:
            return self._locate(key).open("rb")
        except FileNotFoundError:
            raise _missing() from None

    def size(self, key: str) -> int:
        """Return a file's size in bytes. Raises `NotFound`."""
        try:
            return self._locate(key).stat().st_size
        except FileNotFoundError:
            raise _missing() from None

    def delete(self, key: str) -> None:
        """Remove a file; one that is gone already is no error."""
        self._locate(key).unlink(missing_ok=True)

    def remove_stray(self, key: str) -> bool:
        """Remove a file that no job knows, unless its key was given out lately; return whether it is gone."""
        with self._given.lock:
            if key in self._given:
                return False
            self.delete(key)
            return True

    def keys(self) -> Iterator[str]:
        """Yield the keys of all committed files, in no particular order."""
        with os.scandir(self.root) as entries:
            yield from (entry.name for entry in entries if _KEY.fullmatch(entry.name))

    def _is_there(self, key: str) -> bool:
        """Note that a content's key is given out, and tell whether its file is there; if so, it stays."""
        with self._given.lock:
            self._given.add(key)
            there = (self.root / key).exists()
        if there:
            _sync(self.root)  # whoever renamed it may not have come to that yet
        return there

    def _put(self, data: bytes, key: str) -> str:
        with self._begin(key) as pending:
            pending.path.write_bytes(data)
            pending.publish()
        return key

    @contextmanager
    def _begin(self, key: str) -> Iterator[_PendingInFolder]:
        with _storing(self.root):
            path, lock = self._new_pending(key)
            try:
                yield _PendingInFolder(path, self.root / key, self._is_there)
            finally:
                path.unlink(missing_ok=True)
                os.close(lock)

    def _new_pending(self, key: str) -> tuple[Path, int]:
        """Make an empty file under a name of its own, and hold it as its living writer until it is closed.

        Two writers of the same content must not share a file.
        """
        while True:
            path = self._pending / f"{secrets.token_hex(16)}-{key}"
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():  # else it was taken for a dead writer's, before we had the lock
                return path, lock
            os.close(lock)

    def _locate(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise _missing()
        return self.root / key

    def remove_abandoned(self) -> None:
        """Remove what writers left behind that died before they were done; the system knows who lives."""
        for path in self._pending.iterdir():
            # Gone meanwhile, or in its writer's hands.
            with suppress(FileNotFoundError, BlockingIOError), path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


class _Given:
    """Keys that were given out lately, in order of time; for the holder of `lock`."""

    def __init__(self, ticks: Callable[[], float]) -> None:
        self.lock = threading.Lock()
        self._ticks = ticks
        self._keys: dict[str, float] = {}

    def add(self, key: str) -> None:
        """Note that a key is given out now."""
        self._keys.pop(key, None)
        self._keys[key] = self._ticks()
        self._forget_old()

    def __contains__(self, key: str) -> bool:
        self._forget_old()
        return key in self._keys

    def _forget_old(self) -> None:
        before = self._ticks() - GIVEN_S
        old = list(takewhile(lambda key: self._keys[key] <= before, self._keys))
        for key in old:
            del self._keys[key]


class _PendingInFolder:
    """A file under a temporary name in the store's own folder."""

    def __init__(self, path: Path, target: Path, is_there: Callable[[str], bool]) -> None:
        self.path = path
        self._target = target
        self._is_there = is_there

    def commit(self) -> Stored:
        """Make the file durable and visible under its key; once only."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = self.path.stat().st_size
        self.publish()
        return Stored(self._target.name, size, digest)

    def commit_as(self, sha256: str) -> str:
        """Make the file visible under a hash of what it holds, unless it is there already; once only."""
        self._target = self._target.with_name(_named(sha256, self._target.suffix[1:]))
        if not self._is_there(self._target.name):
            self.publish()
        return self._target.name

    def publish(self) -> None:
        """Sync, rename, and sync the folder, so that a power cut leaves all of the file or none of it."""
        _sync(self.path)
        self.path.replace(self._target)
        _sync(self._target.parent)


@contextmanager
def _storing(root: Path) -> Iterator[None]:
    """Say what a disk that takes no file means, FFmpeg's word for it included."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL | _CLOSED:
            raise
        log.error("no file can be kept in %s: %s", root, error.strerror)  # noqa: TRY400  # the line says all
        why = "the disk is full" if error.errno in _FULL else "its folder cannot be written"
        raise StorageFailed(f"The server cannot keep files now: {why}.") from error


def content_key(data: bytes, suffix: str) -> str:
    """Return the key under which `put_content` keeps these bytes."""
    return _named(hashlib.sha256(data).hexdigest(), suffix)


def _named(sha256: str, suffix: str) -> str:
    return f"{sha256}.{_checked(suffix)}"


def _random_key(suffix: str) -> str:
    return f"{secrets.token_hex(16)}.{_checked(suffix)}"


def _checked(suffix: str) -> str:
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError(
            f"a suffix is 1 to 12 lower-case letters or digits, without a dot; this is {suffix!r}"
        )
    return suffix


def _missing() -> NotFound:
    return NotFound("This file does not exist, or not any more.")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
