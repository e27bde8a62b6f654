"""A remix: a finished video made again with another prompt, all else (settings, seed, pictures) as it was."""

from __future__ import annotations

import time
from dataclasses import fields

from vitascope.api.intake import Body
from vitascope.api.request_schema import request_body
from vitascope.api.services import Services
from vitascope.api.submission import check_room
from vitascope.api.values import TEXT, wrong_type
from vitascope.card import WISH_FIELDS, ModelCard, Wish, request_warnings, resolve
from vitascope.errors import UnknownField
from vitascope.jobs.job import Idempotency, Job, new_id
from vitascope.request import GenerationRequest

REMIX_BODY = request_body(
    {"prompt": {"type": "string", "description": "What the new clip should show."}},
    required=["prompt"],
    examples={"A prompt": {"prompt": "a blue circle moving right on a red background"}},
)
_COPIED = [f.name for f in fields(GenerationRequest) if f.name in WISH_FIELDS]


def read_prompt(body: Body) -> str | None:
    """Return the new prompt, the one thing that a remix takes.

    Raises:
        UnknownField: anything else was given.

    """
    for name in (*body.fields, *body.files):
        if name != "prompt":
            raise UnknownField(
                f"Unknown parameter: '{name[:80]}'; a remix takes a prompt and keeps all else. To change "
                "more, create a new video.",
                param=name[:80],
            )
    if body.files:
        raise wrong_type("prompt", "a string", b"")
    prompt = body.fields.get("prompt")
    return None if prompt is None else str(TEXT.read("prompt", prompt))


async def submit_remix(
    services: Services,
    original: Job,
    prompt: str | None,
    card: ModelCard,
    *,
    idempotency: Idempotency | None = None,
) -> Job:
    """Submit a finished job's request with another prompt; return the queued job.

    Raises:
        InvalidRequest: no prompt, or the model as it is served now does not do this any more.
        QueueFull: as many jobs wait as the operator allows.

    """
    copied = {name: getattr(original.request, name) for name in _COPIED}
    request = resolve(Wish(**{**copied, "prompt": prompt}), card)
    await services.off_loop(check_room, services)
    job = Job(
        id=new_id(),
        request=request,
        created_at=time.time(),
        remixed_from=original.id,
        warnings=tuple(request_warnings(request, card)),
        idempotency=idempotency,
    )
    job = await services.off_loop(services.store.submit, job)
    services.scheduling.wake()
    return job
