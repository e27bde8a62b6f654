"""`Idempotency-Key`: a create that is sent twice makes one video.

The store holds the hash of the key beside the job, until the job is deleted or has expired.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable

from fastapi import Request

from vitascope.api.intake import Body
from vitascope.api.services import Services
from vitascope.errors import IdempotencyKeyReused, InvalidRequest
from vitascope.jobs.job import Idempotency, Job

HEADER = "Idempotency-Key"
PARAMETER = {
    "name": HEADER,
    "in": "header",
    "description": "Makes it safe to send a create again: the same key and body give the same video.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)

Submit = Callable[[Idempotency | None], Awaitable[Job]]


async def once(services: Services, request: Request, body: Body, submit: Submit) -> Job:
    """Return the job that an earlier request of this key made, or else what `submit` makes of this one.

    Raises:
        InvalidRequest: the key is no key.
        IdempotencyKeyReused: the earlier request was another one.

    """
    key = request.headers.get(HEADER)
    if key is None:
        return await submit(None)
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            f"{HEADER} must be 1 to 255 visible ASCII characters, a UUID for example.", param=HEADER
        )
    mark = await asyncio.to_thread(_mark, key, request.url.path, body)
    job = await services.off_loop(services.store.repeated, mark.key) or await submit(mark)
    if job.idempotency is None or job.idempotency.body != mark.body:
        raise IdempotencyKeyReused(
            f"This {HEADER} was sent before, with another body; use a new key for a new video.", param=HEADER
        )
    return job


def refuse_key(request: Request) -> None:
    """Refuse a key where no video is kept that a second request could be given. Raises `InvalidRequest`."""
    if HEADER in request.headers:
        raise InvalidRequest(
            f"{HEADER} cannot be honoured here: this call keeps no video that could be given a second time. "
            "POST /v1/videos honours it; download the clip from there.",
            param=HEADER,
        )


def _mark(key: str, path: str, body: Body) -> Idempotency:
    files = {name: [_sha256(data) for data in parts] for name, parts in body.files.items()}
    said = json.dumps([path, body.fields, files], sort_keys=True)
    return Idempotency(key=_sha256(key.encode()), body=_sha256(said.encode()))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
