"""JSON with files in it as base64, sent piece by piece, so that no clip is ever whole in memory."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence

from fastapi.responses import Response, StreamingResponse

from vitascope.api.content import read_chunks
from vitascope.media.artifacts import Artifacts
from vitascope.wire import StoredFile

Part = bytes | StoredFile


async def base64_json(artifacts: Artifacts, parts: Sequence[Part]) -> Response:
    """Answer with the parts in order, each file as its base64. Raises `NotFound` if a file is gone."""
    for part in parts:
        if isinstance(part, StoredFile):  # before the status is sent
            await asyncio.to_thread(artifacts.size, part.key)
    headers = {"content-length": str(sum(map(_length, parts)))}
    return StreamingResponse(_send(artifacts, parts), 200, headers, "application/json")


def _length(part: Part) -> int:
    return len(part) if isinstance(part, bytes) else 4 * ((part.size_bytes + 2) // 3)


async def _send(artifacts: Artifacts, parts: Sequence[Part]) -> AsyncIterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            async for text in _encoded(artifacts, part):
                yield text


async def _encoded(artifacts: Artifacts, file: StoredFile) -> AsyncIterator[bytes]:
    rest = b""  # what does not fill three bytes waits for the next chunk
    async for chunk in read_chunks(artifacts, file.key, range(file.size_bytes)):
        data = rest + chunk
        whole = len(data) - len(data) % 3
        rest = data[whole:]
        yield base64.b64encode(data[:whole])
    yield base64.b64encode(rest)
