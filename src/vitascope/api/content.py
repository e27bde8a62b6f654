"""Finished files over HTTP: whole or one range, with validators, never blocking the event loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, BinaryIO

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from vitascope.api.errors import body, in_words_of, refusals
from vitascope.media.artifacts import Artifacts
from vitascope.wire import StoredFile

CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_ASKED = {
    "Range": "`bytes=FIRST-LAST`: one part of the file; more than one is answered with all of it.",
    "If-Range": "The `etag` that the range is for; the whole file is sent if it is another one.",
    "If-None-Match": "The `etag` of a file that need not be sent again.",
}
FILE_PARAMETERS = [
    {"name": name, "in": "header", "description": about, "schema": {"type": "string"}}
    for name, about in _ASKED.items()
]
_TOLD = {
    "etag": "Names the file's content.",
    "accept-ranges": "`bytes`",
    "cache-control": "`private, no-cache`",
    "content-disposition": "The file's name.",
    "content-security-policy": "`sandbox`",
}


def file_answers(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Document what `file_response` answers."""
    told = {name: {"description": about, "schema": {"type": "string"}} for name, about in _TOLD.items()}
    part = {"content-range": {"description": "Which bytes, of how many.", "schema": {"type": "string"}}}
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in media_types}
    beyond = refusals(416)[416]
    return {
        200: {"content": content, "headers": told, "description": "The whole file."},
        206: {"content": content, "headers": told | part, "description": "The range asked for."},
        304: {"headers": told, "description": "The file is the one that `If-None-Match` names."},
        416: {**beyond, "headers": part},
    }


async def file_response(
    request: Request, artifacts: Artifacts, file: StoredFile, *, file_name: str
) -> Response:
    """Answer GET or HEAD for a stored file with 200, 206, 304 or 416. Raises `NotFound` if it is gone.

    More than one range at once is answered with the whole file, as the standard allows.
    """
    etag = f'"{file.sha256}"'
    headers = {
        "etag": etag,
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": f'attachment; filename="{file_name}"',
        "content-security-policy": "sandbox",
    }
    if _matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    wanted = _wanted_range(request, etag, file.size_bytes)
    if wanted is not None and not wanted:
        return _unsatisfiable(request.url.path, file.size_bytes)
    span = wanted or range(file.size_bytes)
    headers["content-length"] = str(len(span))
    if wanted is not None:
        headers["content-range"] = f"bytes {span.start}-{span.stop - 1}/{file.size_bytes}"
    status = 200 if wanted is None else 206
    there = await asyncio.to_thread(artifacts.open, file.key)  # raises before the status is sent
    if request.method == "HEAD":
        there.close()
        return Response(status_code=status, headers=headers, media_type=file.media_type)
    return _FileAnswer(there, span, status, headers, file.media_type)


async def whole_file(artifacts: Artifacts, file: StoredFile, headers: Mapping[str, str]) -> Response:
    """Answer with all of a stored file and these headers. Raises `NotFound` if it is gone."""
    await asyncio.to_thread(artifacts.size, file.key)  # raises before the status is sent
    everything = read_chunks(artifacts, file.key, range(file.size_bytes))
    length = {"content-length": str(file.size_bytes)}
    return StreamingResponse(everything, 200, {**headers, **length}, file.media_type)


def _matches(header: str, etag: str) -> bool:
    return any(candidate.strip().removeprefix("W/") in {etag, "*"} for candidate in header.split(","))


def _wanted_range(request: Request, etag: str, size: int) -> range | None:
    """Return the bytes asked for, an empty range if there are none such, None if all are."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or match[0] == "bytes=-" or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match[1], match[2]
    if not first:
        return range(max(size - int(last), 0), size)
    stop = min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):
        return None
    return range(int(first), stop)


def _unsatisfiable(path: str, size: int) -> Response:
    content = body(f"The file has {size} bytes; the range lies beyond them.", status=416, param="range")
    return JSONResponse(in_words_of(path, content), 416, {"content-range": f"bytes */{size}"})


async def read_chunks(artifacts: Artifacts, key: str, span: range) -> AsyncIterator[bytes]:
    """Yield the bytes of a part of a stored file. Raises `NotFound`."""
    with await asyncio.to_thread(artifacts.open, key) as file:
        async for chunk in _chunks(file, span):
            yield chunk


class _FileAnswer(StreamingResponse):
    """Part of a file that is open already: one that expires or is deleted meanwhile arrives whole."""

    def __init__(
        self, file: BinaryIO, span: range, status: int, headers: Mapping[str, str], media_type: str
    ) -> None:
        super().__init__(_chunks(file, span), status, headers, media_type)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        with self._file:
            await super().__call__(scope, receive, send)


async def _chunks(file: BinaryIO, span: range) -> AsyncIterator[bytes]:
    await asyncio.to_thread(file.seek, span.start)
    left = len(span)
    while left > 0:
        chunk = await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))
        if not chunk:
            return
        left -= len(chunk)
        yield chunk
