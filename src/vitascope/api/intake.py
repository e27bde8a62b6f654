"""Bodies: multipart, urlencoded and JSON become one `Body`, whatever a client made of its arguments.

Knows how forms spell nested values, and no field's meaning. Names and types that a client gives its files are
never read: the bytes decide what they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from vitascope.api.multipart import MAX_FIELDS, read_multipart
from vitascope.errors import InvalidRequest, UnsupportedMediaType

MAX_NESTING = 4  # brackets of one key
MAX_VALUES = 100_000  # of one JSON text
MAX_ESCAPES = 500_000  # of one urlencoded form: each takes a hundred bytes of memory for a moment
_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\s;\"']*)", re.ASCII | re.IGNORECASE)
_IN_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


@dataclass(frozen=True, slots=True)
class Body:
    """What a request said: `fields` by name (nested values as dicts and lists), uploaded `files` by name."""

    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, list[bytes]] = field(default_factory=dict)


async def read_body(request: Request, *, max_bytes: int) -> Body:
    """Read a request's body in any of the three formats; an absent one is empty.

    Raises:
        UnsupportedMediaType: the body is in a fourth format, compressed, or not in UTF-8.
        InvalidRequest: it cannot be read, repeats a field or has too many parts.

    """
    _check_coding(request.headers)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        texts, files = await read_multipart(request, max_bytes=max_bytes)
        return Body(nest(texts), files)
    data = await request.body()
    if kind == "application/x-www-form-urlencoded":
        return Body(nest(_urlencoded(data)))
    if kind == "application/json" or kind.endswith("+json"):
        return Body(parse_object(data) if data else {})
    if data:
        raise UnsupportedMediaType(
            f"Cannot read a body of type {kind[:80] or 'unknown'!r}; send multipart/form-data, "
            "application/x-www-form-urlencoded or application/json."
        )
    return Body()


def _check_coding(headers: Mapping[str, str]) -> None:
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        raise UnsupportedMediaType(
            f"Cannot read a body of Content-Encoding {coding[:40]!r}; send it as it is."
        )
    charset = _CHARSET.search(headers.get("content-type", ""))
    if charset is not None and charset[1].lower() not in _IN_UTF_8:
        raise UnsupportedMediaType(f"Cannot read a body of charset {charset[1][:40]!r}; send UTF-8.")


def parse_object(data: bytes | str, *, param: str | None = None) -> dict[str, Any]:
    """Parse a JSON object strictly: no repeated keys, no NaN, not nested beyond reason."""
    value = _parse(data, param)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{param or 'The request body'} must be a JSON object.", param=param)
    return value


def parse_array(data: str, *, param: str) -> list[Any]:
    """Parse a JSON array as strictly."""
    value = _parse(data, param)
    if not isinstance(value, list):
        raise InvalidRequest(f"{param} must be a JSON array.", param=param)
    return value


def _parse(data: bytes | str, param: str | None) -> Any:
    _check_size(data, param)
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except InvalidRequest:
        raise
    except (ValueError, RecursionError):
        where = f"{param} is" if param else "The request body is"
        raise InvalidRequest(f"{where} not valid JSON.", param=param) from None


def _check_size(data: bytes | str, param: str | None) -> None:
    """Refuse what would become many times larger once parsed; pictures in base64 are one value each."""
    marks: list[Any] = ["{", "[", ","] if isinstance(data, str) else [b"{", b"[", b","]
    if sum(data.count(mark) for mark in marks) > MAX_VALUES:
        what = param or "The request body"
        raise InvalidRequest(f"{what} holds more than {MAX_VALUES} values.", param=param)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _repeated(key)
        found[key] = value
    return found


def _no_constant(name: str) -> None:
    raise InvalidRequest(f"{name} is not a number that JSON knows.")


def _urlencoded(data: bytes) -> list[tuple[str, str]]:
    if data.count(b"%") > MAX_ESCAPES:
        raise InvalidRequest(
            f"The form holds more than {MAX_ESCAPES} escaped characters; send multipart/form-data or JSON."
        )
    try:
        return parse_qsl(
            data.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError:
        raise InvalidRequest(
            f"The form cannot be read: it must be urlencoded UTF-8 with at most {MAX_FIELDS} fields."
        ) from None


def nest(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Un-nest bracketed keys: `a[b]` is a dict, `a[]` and `a[0]` are lists, `a[][k]` a list of dicts.

    A repeated key in `a[][k]` begins the next dict. Any other repetition is refused.
    """
    tree: dict[str, Any] = {}
    for key, value in pairs:
        _insert(tree, _split(key), value, key)
    return {name: _lists(value, name) for name, value in tree.items()}


def _split(key: str) -> list[str]:
    match = _KEY.fullmatch(key)
    if match is None:
        raise InvalidRequest(f"The field name {key[:80]!r} cannot be read.", param=key[:80])
    steps = match[2][1:-1].split("][") if match[2] else []
    if len(steps) > MAX_NESTING:
        raise InvalidRequest(f"The field {key[:80]!r} is nested too deeply.", param=key[:80])
    return [match[1], *steps]


def _insert(tree: dict[str, Any], steps: list[str], value: Any, key: str) -> None:
    name, *rest = steps
    if not rest:
        if name in tree:
            raise _repeated(key)
        tree[name] = value
    elif rest[0] == "":
        _append(_child(tree, name, list, key), rest[1:], value, key)
    else:
        _insert(_child(tree, name, dict, key), rest, value, key)


def _append(items: list[Any], steps: list[str], value: Any, key: str) -> None:
    if not steps:
        items.append(value)
        return
    if "" in steps:
        raise InvalidRequest(f"The field {key[:80]!r} is a list of lists; send it as JSON.", param=key[:80])
    if not items or not isinstance(items[-1], dict) or _holds(items[-1], steps):
        items.append({})
    _insert(items[-1], steps, value, key)


def _child(tree: dict[str, Any], name: str, kind: type[Any], key: str) -> Any:
    child = tree.setdefault(name, kind())
    if not isinstance(child, kind):
        raise _repeated(key)
    return child


def _holds(tree: Any, steps: list[str]) -> bool:
    for step in steps:
        if not isinstance(tree, dict) or step not in tree:
            return False
        tree = tree[step]
    return True


def _lists(value: Any, key: str) -> Any:
    """Turn dicts whose keys are 0, 1, 2... into lists."""
    if isinstance(value, list):
        return [_lists(item, key) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {name: _lists(item, key) for name, item in value.items()}
    if not all(name.isascii() and name.isdigit() for name in inner):
        return inner
    try:
        return [inner[str(i)] for i in range(len(inner))]
    except KeyError:
        raise InvalidRequest(f"The list {key[:80]!r} has a gap; number it from 0.", param=key[:80]) from None


def _repeated(key: str) -> InvalidRequest:
    return InvalidRequest(f"The field {key[:80]!r} is given more than once.", param=key[:80])
