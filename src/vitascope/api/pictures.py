"""Pictures and clips of a request: the forms in which clients give them, down to bytes.

What the bytes are, and whether they are safe, is for `media.inputs` and `media.clips` to say.
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

SCHEMES = frozenset({"data", "http", "https", "file"})
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.ASCII | re.IGNORECASE)
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,20}):")


@dataclass(frozen=True, slots=True)
class Medium:
    """What is given: its name, the key of its URL in an object, and whether an earlier video may be meant."""

    noun: str
    url_key: str
    by_id: bool = False


PICTURE = Medium("picture", "image_url")
CLIP = Medium("clip", "video_url", by_id=True)


@dataclass(frozen=True, slots=True)
class Source:
    """One picture or clip as it came: an upload's bytes, a URL, or the id of an earlier video.

    `param` is the field that gave it.
    """

    param: str
    data: bytes | None = None
    url: str = ""
    video_id: str | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether it has to be fetched first."""
        return self.data is None and self.video_id is None and _scheme(self.url) != "data"

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
    names: Sequence[str],
    fields: Mapping[str, Any],
    files: Mapping[str, Sequence[bytes]],
    medium: Medium = PICTURE,
) -> Source | None:
    """Find the one picture, or other medium, that these fields give together, or None.

    Raises:
        InvalidRequest: more than one was given, or one in a form that is not taken.

    """
    found = [source for name in names for source in _sources(name, fields, files, medium)]
    if len(found) > 1:
        raise InvalidRequest(f"Provide only one {medium.noun} as {' or '.join(names)}.", param=names[0])
    return found[0] if found else None


def _sources(
    name: str, fields: Mapping[str, Any], files: Mapping[str, Sequence[bytes]], medium: Medium
) -> Iterator[Source]:
    for data in files.get(name, ()):
        yield Source(name, data)
    given = fields.get(name)
    if isinstance(given, str) and given.lstrip()[:1] == "[":
        given = parse_array(given, param=name)
    for value in given if isinstance(given, list) else [given]:
        if value is not None:
            yield _source(name, value, medium)


def _source(name: str, value: Any, medium: Medium) -> Source:
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        value = parse_object(value, param=name)
    if isinstance(value, str):
        return Source(name, url=_checked(name, value, medium))
    if not isinstance(value, dict):
        raise wrong_type(name, "a file or an object", value)
    known = [medium.url_key, *(["id"] if medium.by_id else [])]
    for key in value:
        if key not in {*known, "file_id"}:
            raise UnknownField(
                f"Unknown parameter: '{name}[{key[:80]}]'; use {' or '.join(known)}.", param=name
            )
    if "file_id" in value:
        raise InvalidRequest(f"file_id is not supported; upload the {medium.noun} itself.", param=name)
    return _of_object(name, value, medium)


def _of_object(name: str, value: dict[str, Any], medium: Medium) -> Source:
    url, video_id = value.get(medium.url_key), value.get("id")
    if url is not None and video_id is not None:
        raise InvalidRequest(f"{name} has an id and a {medium.url_key}; give one of them.", param=name)
    for key, given in ((medium.url_key, url), ("id", video_id)):
        if given is not None and not isinstance(given, str):
            raise wrong_type(f"{name}[{key}]", "a string", given)
    if video_id is not None:
        return Source(name, video_id=video_id)
    if url is None:
        raise wrong_type(f"{name}[{medium.url_key}]", "a string", url)
    return Source(name, url=_checked(name, url, medium))


def _checked(name: str, url: str, medium: Medium) -> str:
    """Return a URL that may lead to the medium; whether the operator allows it is the fetcher's to say."""
    if _scheme(url) in SCHEMES:
        return url
    if medium is PICTURE:
        does = "A picture is an upload or a data: URL (data:image/png;base64,...); paths are not read."
    else:
        does = (
            'A clip is an upload, an earlier video ({"id": "video_..."}) or a data: URL; paths are not read.'
        )
    raise InvalidRequest(does, param=name)


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""
