"""How OpenAPI describes bodies: in all three formats, from the table of fields, so that it cannot lag behind.

Examples are sent by the tests, to a server that must accept them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from vitascope.api.fields import FIELDS, Known, Use

JSON, MULTIPART, URLENCODED = "application/json", "multipart/form-data", "application/x-www-form-urlencoded"
PROMPT = "a red circle moving right on a blue background"
PICTURE = (  # a PNG of 8x8 pixels, as blue as can be
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mNkYPjPgA0wMeAAg1MCAMtDAQ9w"
    "2TiCAAAAAElFTkSuQmCC"
)
CLIP_EXAMPLE = (  # a GIF of 8x8 pixels and five frames: a white square moves over blue
    "data:image/gif;base64,R0lGODlhCAAIAIEAAAAAyP///wAAAAAAACH5BAANAAAALAAAAAAIAAgAAAgWAAEIHEiwII"
    "AACAsiDKAwocGHEB8GBAAh+QQBDQACACwAAAIABAADAIEAAMj///8AAAAAAAAIDAABCBAQQCBBgwECAgAh+QQBDQACAC"
    "wBAAIABAADAIEAAMj///8AAAAAAAAIDAABCBAQQCBBgwECAgAh+QQBDQACACwCAAIABAADAIEAAMj///8AAAAAAAAIDA"
    "ABCBAQQCBBgwECAgAh+QQBDQACACwDAAIABAADAIEAAMj///8AAAAAAAAIDAABCBAQQCBBgwECAgA7"
)
SOURCES = tuple(name for name, known in FIELDS.items() if known.use is Use.SOURCE)
_UNDOCUMENTED = {Use.REFUSED, Use.PATH}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "A prompt": {"prompt": PROMPT, "seconds": "2", "seed": 1},
    "A first frame": {"prompt": PROMPT, "input_reference": PICTURE, "resize_mode": "crop"},
    "A first and a last frame": {
        "prompt": PROMPT,
        "input_reference": {"image_url": PICTURE},
        "last_frame_reference": {"image_url": PICTURE},
        "resize_mode": "crop",
    },
    "vLLM-Omni's fields": {
        "prompt": PROMPT,
        "width": 64,
        "height": 64,
        "num_frames": 17,
        "fps": 8,
        "num_inference_steps": 10,
        "guidance_scale": 2.0,
        "seed": 42,
        "extra_params": {"sample_solver": "unipc"},
    },
    "SGLang's fields": {
        "prompt": PROMPT,
        "size": "64x64",
        "num_frames": 17,
        "num_inference_steps": 10,
        "enable_teacache": False,
        "generator_device": "cuda",
    },
}


def request_body(
    properties: Mapping[str, dict[str, Any]],
    *,
    examples: Mapping[str, dict[str, Any]],
    required: Iterable[str] = (),
    uploads: Iterable[str] = (),
) -> dict[str, Any]:
    """Describe a body by its properties in JSON; in forms, nested values are JSON text.

    `uploads` are files in multipart. Where one of them is required, no other format can hold the body.
    """
    needed, files = list(required), set(uploads)
    kinds = [MULTIPART] if files & set(needed) else [JSON, MULTIPART, URLENCODED]
    content: dict[str, Any] = {}
    for kind in kinds:
        described = {
            name: _property(name, schema, kind, files, optional=name not in needed)
            for name, schema in properties.items()
        }
        schema = {"type": "object", "properties": described, "additionalProperties": False}
        content[kind] = {
            "schema": {**schema, "required": needed} if needed else schema,
            "examples": {name: {"value": _spelled(value, kind)} for name, value in examples.items()},
        }
    return {"required": bool(needed), "content": content}


def create_properties() -> dict[str, dict[str, Any]]:
    """Describe every field that a create takes, as JSON has it."""
    return {name: _known(known) for name, known in FIELDS.items() if known.use not in _UNDOCUMENTED}


def _known(known: Known) -> dict[str, Any]:
    if known.use is Use.OFF:
        spelled = ("false", "0") if False in known.harmless else ()
        return {"enum": [*known.harmless, *spelled], "description": f"Not asked for, at most: {known.about}."}
    inert = "No effect here: " if known.use is Use.INERT else ""
    return {**known.kind.schema, "description": f"{inert}{known.about}"}


def _property(
    name: str, schema: dict[str, Any], kind: str, files: set[str], *, optional: bool
) -> dict[str, Any]:
    about = {key: schema[key] for key in ("description",) if key in schema}
    if name in files and kind == MULTIPART:
        return {"type": "string", "format": "binary", **about}
    if kind == JSON:
        return _or_null(schema) if optional else schema
    shapes = _shapes(schema)
    plain = [shape for shape in shapes if shape.get("type") not in {"object", "array", "null"}]
    if len(plain) == len(shapes):
        return schema
    if plain:
        return {"anyOf": plain, **about} if len(plain) > 1 else {**plain[0], **about}
    return {"type": "string", "contentMediaType": JSON, **about}


def _shapes(schema: dict[str, Any]) -> list[dict[str, Any]]:
    shapes: list[dict[str, Any]] = schema.get("anyOf", [schema])
    return shapes


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Describe that a null is a field that was not given."""
    about = {key: value for key, value in schema.items() if key in {"description", "default"}}
    bare = {key: value for key, value in schema.items() if key not in about}
    null = {"type": "null"}
    shapes = _shapes(bare)
    return schema if null in shapes or not bare else {"anyOf": [*shapes, null], **about}


def _spelled(value: dict[str, Any], kind: str) -> dict[str, Any]:
    if kind == JSON:
        return value
    return {
        name: json.dumps(item) if isinstance(item, dict | list | bool) else item
        for name, item in value.items()
    }


CREATE_BODY = request_body(create_properties(), examples=_EXAMPLES, required=["prompt"], uploads=SOURCES)
