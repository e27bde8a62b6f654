"""What a field's value may look like on the wire: one reader a type, strict, the same for forms and JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from vitascope.api.intake import parse_object
from vitascope.card import MAX_OUTPUTS
from vitascope.errors import InvalidRequest, InvalidType
from vitascope.request import AttentionCache

_INTEGER = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?", re.ASCII)
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)
_CACHE_KEYS = tuple(f.name for f in fields(AttentionCache))
_HUGE = 1e300
_FLAGS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value: how it is read, and how OpenAPI describes it."""

    read: Callable[[str, Any], Any]
    schema: dict[str, Any]


def wrong_type(name: str, wanted: str, value: Any) -> InvalidType:
    """Say what was wanted and what came, in OpenAI's words."""
    kinds = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "an array"}
    kinds |= {dict: "an object", bytes: "a file"}
    got = kinds.get(type(value), "null")
    return InvalidType(f"Invalid type for '{name}': expected {wanted}, but got {got} instead.", param=name)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_type(name, "a string", value)
    return value


def _integer(name: str, value: Any) -> int:
    spelled = isinstance(value, str) and _INTEGER.fullmatch(value)
    if spelled or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if isinstance(value, str | float):
        raise InvalidType(f"Invalid value for '{name}': {_shown(value)} is not an integer.", param=name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an integer", value)
    if not -(2**63) <= value < 2**63:
        raise InvalidRequest(f"Invalid value for '{name}': integers have at most 64 bits.", param=name)
    return value


def _number(name: str, value: Any) -> float:
    number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int | float | str):
        raise wrong_type(name, "a number", value)
    if isinstance(number, str) or not abs(number) < _HUGE:  # true of NaN, too
        raise InvalidType(f"Invalid value for '{name}': {_shown(value)} is not a number.", param=name)
    return float(number)


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, str):
        if value.lower() not in _FLAGS:
            raise InvalidType(
                f"Invalid value for '{name}': {_shown(value)} is neither true nor false.", param=name
            )
        return _FLAGS[value.lower()]
    if not isinstance(value, bool):
        raise wrong_type(name, "a boolean", value)
    return value


def _object(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return parse_object(value, param=name)
    raise wrong_type(name, "an object", value)


def _size(name: str, value: Any) -> tuple[int, int]:
    match = _SIZE.fullmatch(_text(name, value))
    if match is None:
        raise InvalidRequest(
            f"Invalid value for '{name}': {_shown(value)}; write it as WIDTHxHEIGHT, for example 832x480.",
            param=name,
        )
    return int(match[1]), int(match[2])


def _attention_cache(name: str, value: Any) -> AttentionCache:
    given = _object(name, value)
    if given.keys() != set(_CACHE_KEYS):
        raise InvalidRequest(
            f"{name} is an object of {', '.join(_CACHE_KEYS)}, no more and no less.", param=name
        )
    return AttentionCache(**{key: _integer(f"{name}.{key}", given[key]) for key in _CACHE_KEYS})


def _anything(_: str, value: Any) -> Any:
    return value


def choice(*values: str) -> Kind:
    """Describe a text with few values; which one it is, its reader checks."""
    return Kind(_text, {"type": "string", "enum": list(values)})


def described(schema: dict[str, Any]) -> Kind:
    """Describe a value that its reader takes as it comes."""
    return Kind(_anything, schema)


def _shown(value: Any) -> str:
    return repr(value)[:60]


TEXT = Kind(_text, {"type": "string"})
_SPELLED_INTEGER = {"type": "string", "pattern": f"^{_INTEGER.pattern}$".replace(r"\d", "[0-9]")}
_SPELLED_NUMBER = {"type": "string", "pattern": f"^{_NUMBER.pattern}$".replace(r"\d", "[0-9]")}
INTEGER = Kind(_integer, {"anyOf": [{"type": "integer"}, _SPELLED_INTEGER]})
COUNT = Kind(
    _integer, {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_OUTPUTS}, {"type": "string"}]}
)
NUMBER = Kind(_number, {"anyOf": [{"type": "number"}, _SPELLED_NUMBER]})
FLAG = Kind(_flag, {"anyOf": [{"type": "boolean"}, {"type": "string", "enum": list(_FLAGS)}]})
OBJECT = Kind(_object, {"anyOf": [{"type": "object"}, {"type": "string"}]})
SIZE = Kind(_size, {"type": "string", "pattern": "^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$"})
ANYTHING = Kind(_anything, {})
_STEP = {"anyOf": [{"type": "integer", "minimum": 0}, _SPELLED_INTEGER]}
_CACHE = {
    "type": "object",
    "required": list(_CACHE_KEYS),
    "additionalProperties": False,
    "properties": {
        "start_step": _STEP,
        "interval": {"anyOf": [{"type": "integer", "minimum": 1}, _SPELLED_INTEGER]},
        "end_step": _STEP,
    },
}
ATTENTION_CACHE = Kind(_attention_cache, {"anyOf": [_CACHE, {"type": "string"}]})
