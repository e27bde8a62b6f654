"""Multipart bodies: their parts as they came, whole and in UTF-8, or a refusal.

The parser underneath takes a body that breaks off for a whole one, and guesses where text is in no encoding
that it knows; neither gets past here.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import Request
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from vitascope.errors import InvalidRequest

MAX_FIELDS = 200
MAX_FILES = 8
_AS_BYTES = "latin-1"  # every byte is a character of its own

Texts = list[tuple[str, str]]
Files = dict[str, list[bytes]]


class _Parser(MultiPartParser):
    """Notes whether the last boundary came."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def read_multipart(request: Request, *, max_bytes: int) -> tuple[Texts, Files]:
    """Read a multipart body: its fields in order, and its files by name.

    Raises:
        InvalidRequest: it cannot be read, breaks off, is not in UTF-8 or has too many parts.

    """
    parser = _Parser(
        Headers({"content-type": f"{request.headers['content-type']}; charset={_AS_BYTES}"}),
        request.stream(),
        max_files=MAX_FILES,
        max_fields=MAX_FIELDS,
        max_part_size=max_bytes,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequest(f"The multipart body cannot be read: {error.message}") from None
    try:
        if not parser.ended:
            raise InvalidRequest("The multipart body breaks off: its closing boundary is missing.")
        return await _sorted_parts(form.multi_items())
    finally:
        await form.close()


async def _sorted_parts(parts: Iterable[tuple[str, UploadFile | str]]) -> tuple[Texts, Files]:
    texts: Texts = []
    files: Files = {}
    for raw_name, part in parts:
        name = _decoded(raw_name)
        if isinstance(part, UploadFile):
            files.setdefault(name.removesuffix("[]"), []).append(await part.read())
        else:
            texts.append((name, _decoded(part, param=name)))
    return texts, files


def _decoded(raw: str, *, param: str | None = None) -> str:
    try:
        return raw.encode(_AS_BYTES).decode("utf-8")
    except UnicodeError:
        where = "A field's name" if param is None else f"The field {param[:80]!r}"
        raise InvalidRequest(f"{where} is not in UTF-8.", param=param) from None
