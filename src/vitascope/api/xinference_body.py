"""Bodies of Xinference's video calls, understood: `kwargs` opened, pictures measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vitascope.api.choosing import chosen_card
from vitascope.api.intake import Body
from vitascope.api.pictures import Source
from vitascope.api.reading import Reading, read_wish
from vitascope.api.services import Services
from vitascope.api.values import INTEGER, OBJECT, TEXT, wrong_type
from vitascope.card import ModelCard
from vitascope.errors import InvalidRequest, ModelNotFound, UnknownModel
from vitascope.media.sizes import size_like

MAX_REQUEST_ID_CHARS = 200
FORMATS = ("b64_json", "url")
BAG = "extra_params"  # `kwargs` is opened as this one is
SIZES = ("size", "width", "height")
_AREA = re.compile(r"\s*(\d{1,5})\s*\*\s*(\d{1,5})\s*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a call asks for: clips of one model, as base64 or as URLs."""

    reading: Reading
    card: ModelCard
    by_url: bool
    request_id: str | None


def named_card(services: Services, name: Any) -> ModelCard:
    """Return a served model by name or alias. Raises `ModelNotFound`."""
    try:
        return chosen_card(services, name)
    except UnknownModel as error:
        raise ModelNotFound(error.message, param="model") from None


def read_order(services: Services, body: Body, pictures: Mapping[str, str]) -> Order:
    """Understand a body; blocking. `pictures` are the files it must bring, with our names of them.

    Raises:
        ModelNotFound: no such model is served.
        InvalidRequest: a field that cannot be read or honoured, or a file that is missing.

    """
    fields = {name: value for name, value in body.fields.items() if value is not None}
    kwargs = dict(OBJECT.read("kwargs", fields.pop("kwargs", {})))
    card = named_card(services, fields.get("model"))
    by_url = _by_url(kwargs.pop("response_format", None))
    request_id = _request_id(kwargs.pop("request_id", None))
    max_area = _max_area(kwargs.pop("max_area", None)) if pictures else None
    if kwargs.get("seed") == -1:
        del kwargs["seed"]
    _check_beside(kwargs)
    if BAG in fields:
        raise InvalidRequest(f"Give the fields of {BAG} in kwargs; a call has one of them.", param=BAG)
    if isinstance(fields.get("prompt"), list):
        fields["prompt"] = _one_prompt(fields["prompt"])
    files = _files(body, pictures, card)
    fitted, warnings = _fitted(services, {**fields, **kwargs}, files, card, max_area)
    reading = read_wish(Body({**fields, **fitted, BAG: kwargs}, _renamed(files, pictures)), card)
    reading = _blaming(reading, pictures, "max_area" if max_area else None)
    reading = replace(reading, warnings=(*reading.warnings, *warnings))
    return Order(reading=reading, card=card, by_url=by_url, request_id=request_id)


def _by_url(given: Any) -> bool:
    if given is not None and given not in FORMATS:
        raise InvalidRequest(
            f"Invalid value: {str(given)[:40]!r}. Supported values are: 'b64_json' and 'url'.",
            param="response_format",
        )
    return bool(given == "url")


def _request_id(given: Any) -> str | None:
    if given is None:
        return None
    if not 1 <= len(TEXT.read("request_id", given)) <= MAX_REQUEST_ID_CHARS:
        raise InvalidRequest(
            f"request_id must have 1 to {MAX_REQUEST_ID_CHARS} characters.", param="request_id"
        )
    return str(given)


def _max_area(given: Any) -> int | None:
    """Read `[height, width]` or `"height*width"` as pixels."""
    if given is None:
        return None
    match = _AREA.fullmatch(given) if isinstance(given, str) else None
    sides = list(match.groups()) if match else given
    if not isinstance(sides, list) or len(sides) != 2:
        raise InvalidRequest(
            "max_area is a height and a width: a list of two, or text such as '480*832'.", param="max_area"
        )
    height, width = (int(INTEGER.read("max_area", side)) for side in sides)
    if min(height, width) < 1:
        raise InvalidRequest("max_area must be two positive numbers.", param="max_area")
    return height * width


def _check_beside(kwargs: Mapping[str, Any]) -> None:
    for name in ("model", "n", "kwargs"):
        if name in kwargs:
            raise InvalidRequest(f"{name} goes beside kwargs, not into it.", param=name)


def _one_prompt(prompts: list[Any]) -> Any:
    if len(prompts) != 1:
        raise InvalidRequest(
            f"prompt lists {len(prompts)} prompts; make one call for each, or set n for more clips of one.",
            param="prompt",
        )
    return prompts[0]


def _files(body: Body, pictures: Mapping[str, str], card: ModelCard) -> dict[str, bytes]:
    for name, files in body.files.items():
        if name == "video":
            raise InvalidRequest(f"{card.name} takes no driving video; leave video out.", param=name)
        if name not in pictures:
            raise wrong_type(name, "a plain value", b"")
        if len(files) != 1:
            raise InvalidRequest(f"The file {name!r} is given more than once.", param=name)
    for name in pictures:
        if name not in body.files:
            raise InvalidRequest(f"Missing required file: {name!r}.", param=name)
    return {name: files[0] for name, files in body.files.items()}


def _renamed(files: Mapping[str, bytes], pictures: Mapping[str, str]) -> dict[str, list[bytes]]:
    return {pictures[name]: [data] for name, data in files.items()}


def _fitted(
    services: Services,
    values: Mapping[str, Any],
    files: Mapping[str, bytes],
    card: ModelCard,
    max_area: int | None,
) -> tuple[dict[str, Any], list[str]]:
    """Return the fields that let a clip follow its first picture, as these clients expect, and say so."""
    if not files:
        return {}, []
    fields: dict[str, Any] = {} if "resize_mode" in values else {"resize_mode": "crop"}
    if any(values.get(name) is not None for name in SIZES):
        if max_area is not None:
            raise InvalidRequest("max_area contradicts width and height; give one of them.", param="max_area")
        return fields, []
    name, data = next(iter(files.items()))
    shape = services.inputs.measure(data, param=name)
    width, height = size_like(shape, card, max_area)
    if (width, height) == shape:
        return {**fields, "width": width, "height": height}, []
    said = (
        f"The picture is {shape[0]}x{shape[1]} and the clip {width}x{height}, as near to its shape as may be."
    )
    return {**fields, "width": width, "height": height}, [said]


def _blaming(reading: Reading, pictures: Mapping[str, str], sized_by: str | None) -> Reading:
    """Let refusals name the fields that the client knows."""
    names = {ours: theirs for theirs, ours in pictures.items()}

    def renamed(source: Source | None) -> Source | None:
        return replace(source, param=names.get(source.param, source.param)) if source else None

    return replace(
        reading,
        first_frame=renamed(reading.first_frame),
        last_frame=renamed(reading.last_frame),
        sized_by=sized_by or reading.sized_by,
    )
