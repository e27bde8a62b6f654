"""How OpenAPI describes the body of a create: made from the table of fields, so that it cannot lag behind."""

from __future__ import annotations

from typing import Any

from vitascope.api.fields import FIELDS, Known, Use

_DOCUMENTED = {Use.WISH, Use.READ, Use.SOURCE, Use.BAG, Use.INERT}
_UPLOADS = {"input_reference", "last_frame_reference"}
_EXAMPLE = {"prompt": "a red circle moving right on a blue background", "seconds": "2", "seed": 1}


def _property(name: str, known: Known, *, form: bool) -> dict[str, Any]:
    inert = "No effect here: " if known.use is Use.INERT else ""
    described = {"description": f"{inert}{known.about}"}
    if name in _UPLOADS and form:
        return {"type": "string", "format": "binary", **described}
    return {**known.kind.schema, **described}


def _schema(*, form: bool) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["prompt"],
        "additionalProperties": False,
        "properties": {
            name: _property(name, known, form=form)
            for name, known in FIELDS.items()
            if known.use in _DOCUMENTED
        },
    }


CREATE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _schema(form=True), "example": _EXAMPLE},
        "application/json": {"schema": _schema(form=False), "example": _EXAMPLE},
        "application/x-www-form-urlencoded": {"schema": _schema(form=False)},
    },
}
