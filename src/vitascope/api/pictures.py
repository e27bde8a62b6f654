"""Pictures of a request: the forms in which clients give them, down to bytes.

What the bytes are, and whether they are safe, is for `media.inputs` to say.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitascope.api.intake import parse_array, parse_object
from vitascope.api.values import wrong_type
from vitascope.errors import InvalidMedia, InvalidRequest, UnknownField

RESIZE_MODES = ("error", "crop", "pad")
SCHEMES = frozenset({"data", "http", "https", "file"})
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.ASCII | re.IGNORECASE)
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,20}):")


@dataclass(frozen=True, slots=True)
class Source:
    """One picture as it came: the bytes of an upload, or a URL. `param` is the field that gave it."""

    param: str
    data: bytes | None = None
    url: str = ""

    @property
    def elsewhere(self) -> bool:
        """Whether the picture has to be fetched first."""
        return self.data is None and _scheme(self.url) != "data"

    def content(self) -> bytes:
        """Return the bytes of an upload or a data: URL; a long one takes a while. Raises `InvalidMedia`."""
        if self.data is not None:
            return self.data
        head = _DATA_URL.match(self.url)
        if head is None:
            raise InvalidMedia(
                "A data: URL must be base64-encoded: data:image/png;base64,...", param=self.param
            )
        try:
            return base64.b64decode(self.url[head.end() :], validate=True)
        except (binascii.Error, ValueError):
            raise InvalidMedia("The data: URL is not valid base64.", param=self.param) from None


def one_source(
    names: Sequence[str], fields: Mapping[str, Any], files: Mapping[str, Sequence[bytes]]
) -> Source | None:
    """Find the one picture that these fields give together, or None.

    Raises:
        InvalidRequest: more than one was given, or one in a form that is not taken.

    """
    found = [source for name in names for source in _sources(name, fields, files)]
    if len(found) > 1:
        raise InvalidRequest(f"Provide only one picture as {' or '.join(names)}.", param=names[0])
    return found[0] if found else None


def _sources(name: str, fields: Mapping[str, Any], files: Mapping[str, Sequence[bytes]]) -> Iterator[Source]:
    for data in files.get(name, ()):
        yield Source(name, data)
    given = fields.get(name)
    if isinstance(given, str) and given.lstrip()[:1] == "[":
        given = parse_array(given, param=name)
    for value in given if isinstance(given, list) else [given]:
        if value is not None:
            yield Source(name, url=_checked(name, _url(name, value)))


def _url(name: str, value: Any) -> str:
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        value = parse_object(value, param=name)
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise wrong_type(name, "a file or an object", value)
    for key in value:
        if key not in {"image_url", "file_id"}:
            raise UnknownField(f"Unknown parameter: '{name}[{key[:80]}]'; use image_url.", param=name)
    if "file_id" in value:
        raise InvalidRequest("file_id is not supported; upload the picture itself.", param=name)
    url = value.get("image_url")
    if not isinstance(url, str):
        raise wrong_type(f"{name}[image_url]", "a string", url)
    return url


def _checked(name: str, url: str) -> str:
    """Return a URL that may lead to a picture; whether the operator allows it is the fetcher's to say."""
    if _scheme(url) in SCHEMES:
        return url
    raise InvalidRequest(
        "A picture is an upload or a data: URL (data:image/png;base64,...); paths are not read.", param=name
    )


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""
