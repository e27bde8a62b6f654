"""OpenAI's edits and extensions: a clip made anew after another prompt, and a clip that goes on.

The clip is an earlier video by its id, or one that is uploaded. Beside it go all the fields of a create but
pictures that the clip stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitascope.api.choosing import chosen_card
from vitascope.api.fields import VIDEO_FIELDS
from vitascope.api.intake import Body
from vitascope.api.pictures import CLIP, one_source
from vitascope.api.reading import FIRST_FRAME_FIELDS, LAST_FRAME_FIELDS, Reading, read_wish
from vitascope.api.request_schema import CLIP_EXAMPLE, PROMPT, create_properties, request_body
from vitascope.api.services import Services
from vitascope.api.views import find
from vitascope.card import ModelCard
from vitascope.errors import InvalidRequest, VideoNotFound


def _body_of(without: Sequence[str], required: Sequence[str], example: dict[str, Any]) -> dict[str, Any]:
    properties = {name: field for name, field in create_properties().items() if name not in without}
    example = {"prompt": PROMPT, "video": {"video_url": CLIP_EXAMPLE}, **example}
    examples = {'A small clip; an earlier video is {"id": "video_..."}': example}
    return request_body(properties, examples=examples, required=required, uploads=["video"])


_OTHER_NAMES = [name for name in VIDEO_FIELDS if name != "video"]
EDIT_BODY = _body_of([*_OTHER_NAMES, *FIRST_FRAME_FIELDS, *LAST_FRAME_FIELDS], ["prompt"], {})
EXTENSION_BODY = _body_of(
    [*_OTHER_NAMES, *FIRST_FRAME_FIELDS, "strength"],
    ["prompt"],
    {"seconds": "1", "size": "64x64", "resize_mode": "crop", "fps": 8},
)


async def card_of(services: Services, body: Body) -> ModelCard:
    """Return the card of the model that is named, or that made the video, or the default one.

    Raises what `chosen_card` raises, and `VideoNotFound`.
    """
    source = one_source(VIDEO_FIELDS, body.fields, body.files, CLIP)
    if body.fields.get("model") is not None or source is None or source.video_id is None:
        return chosen_card(services, body.fields.get("model"))
    try:
        original = await services.off_loop(find, services, source.video_id)
    except VideoNotFound as error:
        error.param = source.param
        raise
    return chosen_card(services, original.job.request.model, aliases=False)


def read_edit(body: Body, card: ModelCard) -> Reading:
    """Understand an edit. Raises `InvalidRequest`."""
    reading = _with_clip(read_wish(body, card))
    for picture in (reading.first_frame, reading.last_frame):
        if picture is not None:
            raise InvalidRequest("An edit takes no pictures beside its clip.", param=picture.param)
    return reading


def read_extension(body: Body, card: ModelCard) -> Reading:
    """Understand an extension; a last frame is where it goes. Raises `InvalidRequest`."""
    reading = _with_clip(read_wish(body, card, continues=True))
    if reading.first_frame is not None:
        raise InvalidRequest(
            "An extension begins with the last frame of its clip, and takes no other.",
            param=reading.first_frame.param,
        )
    if reading.wish.strength is not None:
        raise InvalidRequest("An extension makes new frames only; leave strength out.", param="strength")
    if reading.wish.seconds is None and reading.wish.num_frames is None:
        raise InvalidRequest("Missing required parameter: 'seconds', or num_frames.", param="seconds")
    return reading


def _with_clip(reading: Reading) -> Reading:
    if reading.video is None:
        raise InvalidRequest(
            "Missing required parameter: 'video'; upload a clip, or name an earlier video as {\"id\": ...}.",
            param="video",
        )
    return reading
