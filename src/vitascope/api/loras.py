"""The `lora` field: vLLM-Omni's object with the name and scale of an adapter, or a list of such."""

from __future__ import annotations

from typing import Any

from vitascope.api.intake import parse_object
from vitascope.api.values import NUMBER, TEXT, Kind, wrong_type
from vitascope.errors import InvalidRequest

_NAMES = ("name", "lora_name", "adapter")
_SCALES = ("scale", "lora_scale")
_PATHS = ("path", "local_path", "lora_path", "lora_local_path")


def _loras(name: str, value: Any) -> tuple[tuple[str, float], ...]:
    """Read names and scales; whether there are such adapters is the model card's to say."""
    if isinstance(value, str):
        value = _parsed(name, value)
    return tuple(_lora(name, item) for item in (value if isinstance(value, list) else [value]))


def _parsed(name: str, text: str) -> Any:
    """Read what a form holds: JSON, an object or a list."""
    if not text.lstrip().startswith("["):
        return parse_object(text, param=name)
    wrapped = parse_object(f'{{"{name}": {text}}}', param=name)
    if wrapped.keys() != {name}:
        raise InvalidRequest(f"{name} is not valid JSON.", param=name)
    return wrapped[name]


def _lora(name: str, item: Any) -> tuple[str, float]:
    if not isinstance(item, dict):
        raise wrong_type(name, "an object or an array of objects", item)
    for key in item:
        _check_key(name, key)
    given = [item[key] for key in _NAMES if item.get(key) is not None]
    scales = [item[key] for key in _SCALES if item.get(key) is not None]
    if len(given) != 1 or len(scales) > 1:
        raise InvalidRequest(f"{name} needs one name, and one scale at most, for each adapter.", param=name)
    scale = NUMBER.read(f"{name}.scale", scales[0]) if scales else 1.0
    return TEXT.read(f"{name}.name", given[0]), scale


def _check_key(name: str, key: str) -> None:
    if key in _PATHS:
        raise InvalidRequest(
            f"{name}.{key} is a path on the server, and clients choose none: give the name of one of the "
            "adapters that the model lists.",
            param=name,
        )
    if key not in (*_NAMES, *_SCALES):
        raise InvalidRequest(
            f"{name} has an unknown entry {key[:80]!r}; known are name and scale.", param=name
        )


_ONE = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "scale": {**NUMBER.schema, "default": 1}},
}
LORAS = Kind(_loras, {"anyOf": [_ONE, {"type": "array", "items": _ONE}, {"type": "string"}]})
