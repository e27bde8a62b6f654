"""One file of a hub model: resumed where it broke off, put into the hub's cache, checked against its hash.

It works beside huggingface_hub's downloader, which starts a file anew when a download broke off; the cache's
layout stays that library's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

from huggingface_hub import HfFileMetadata, get_hf_file_metadata
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]  # its client's base
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from vitascope.errors import CheckpointError

Moved = Callable[[int, int], None]  # called with the bytes that came, and those that came in all

_SHA256, _GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_BLOB_NAME = re.compile(r"[\w-][\w.-]*")
_ATTEMPTS_WITHOUT_A_BYTE = 3
_LEDGER = "vitascope-checked.json"


class Bar:
    """What huggingface_hub takes for a progress bar: draws nothing, tells `moved` of every byte."""

    def __init__(self, moved: Moved, **options: Any) -> None:
        self.n = int(options.get("initial") or 0)
        self.total = options.get("total")
        self.format_dict: dict[str, Any] = {}
        self._moved = moved if options.get("unit") == "B" else None

    def update(self, n: float | None = 1) -> None:
        """Count."""
        self.n += int(n or 0)
        if self._moved is not None:
            self._moved(int(n or 0), self.n)

    def refresh(self, *_: Any, **__: Any) -> None:
        """Draw nothing."""

    set_description = set_description_str = set_postfix_str = close = refresh

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""


def download(url: str, storage: Path, shown: str, moved: Moved) -> None:
    """Bring the file at `url` into `storage`'s blobs, from where an earlier download broke off.

    Files in the hub's chunk storage are left to huggingface_hub, whose client for it resumes by chunk.

    Raises:
        CheckpointError: the hub does not name the file by a hash.

    """
    found = get_hf_file_metadata(url)
    if found.xet_file_data is not None:
        return
    blob = storage / "blobs" / _blob_name(found, shown)
    if blob.exists():
        moved(found.size or 0, 0)
        return
    part = blob.with_name(f"{blob.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(f"{part}.lock"), part.open("ab") as out:
        if out.tell() > (found.size or 0):
            out.truncate(0)
        moved(out.tell(), 0)
        _complete(found, _headers(url, found), out, moved)
    part.replace(blob)


def _complete(found: HfFileMetadata, headers: dict[str, str], out: BinaryIO, moved: Moved) -> None:
    """Fetch what is missing, as often as the connection drops while bytes still come."""
    failures = 0
    while True:
        start = out.tell()
        try:
            http_get(
                found.location,
                out,
                resume_size=start,
                headers=headers,
                expected_size=found.size,
                tqdm_class=partial(Bar, moved),  # type: ignore[arg-type]
            )
        except HfHubHTTPError:
            raise
        except TransportError:
            failures = failures + 1 if out.tell() == start else 0
            if failures == _ATTEMPTS_WITHOUT_A_BYTE:
                raise
        else:
            return


def _headers(url: str, found: HfFileMetadata) -> dict[str, str]:
    """Send the operator's token to the hub alone, not to the store it points to."""
    headers: dict[str, str] = build_hf_headers()
    if url.split("/")[2] != found.location.split("/")[2]:
        headers.pop("authorization", None)
    return headers


def _blob_name(found: HfFileMetadata, shown: str) -> str:
    name = found.etag or ""
    hashed = _SHA256.fullmatch(name) or (not shown.endswith(".safetensors") and _BLOB_NAME.fullmatch(name))
    if not hashed:
        raise CheckpointError(f"The hub gives no SHA-256 for {shown}; it is not used unchecked.")
    return name


class Ledger:
    """Which blobs of a cached model were checked, so that each is read for it only once."""

    def __init__(self, storage: Path) -> None:
        self._path = storage / _LEDGER
        self._checked: dict[str, list[int]] = {}
        with suppress(OSError, ValueError):
            self._checked = json.loads(self._path.read_text(encoding="utf-8"))

    def check(self, file: Path, shown: str) -> None:
        """Compare a cached file with the hash that its blob is named by; a false one is removed.

        Raises:
            CheckpointError: the content is another.

        """
        if not file.is_symlink():
            return  # a cache without links keeps no names of blobs
        name, stat = file.readlink().name, file.stat()
        seen = [stat.st_size, stat.st_mtime_ns]
        if self._checked.get(name) == seen:
            return
        actual = _hash(file, name)
        if actual is not None and actual != name:
            for path in (file.resolve(), file.parent / file.readlink(), file):
                path.unlink(missing_ok=True)
            raise CheckpointError(
                f"{shown} is not what the hub says it is: its hash is {actual[:12]}, not {name[:12]}. "
                "It was removed; something between here and the hub may be changing files."
            )
        self._checked[name] = seen

    def save(self) -> None:
        """Write what was checked, unless the cache is read-only."""
        with suppress(OSError):
            self._path.write_text(json.dumps(self._checked), encoding="utf-8")


def _hash(file: Path, name: str) -> str | None:
    """Hash a file the way that a blob's name was made; None for a name that is no hash."""
    if _SHA256.fullmatch(name):
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    if _GIT_SHA1.fullmatch(name):
        content = file.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return None
