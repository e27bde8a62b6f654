"""What a clip says about its making: enough to make it again, and to tell whether it came out the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import vitascope
from vitascope.card import ModelCard
from vitascope.errors import InvalidMedia
from vitascope.media.video import read_metadata
from vitascope.request import GenerationRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The content of a clip's `comment` field. `identity` is the model's; the hash is of the RGB frames."""

    vitascope: str  # the version that made it
    model: str
    identity: str
    request: GenerationRequest
    frames_sha256: str


def describe(request: GenerationRequest, card: ModelCard) -> dict[str, Any]:
    """Return what a `VideoWriter` is given as metadata; it adds `frames_sha256` itself."""
    return {
        "vitascope": vitascope.__version__,
        "model": card.name,
        "identity": card.identity,
        "request": msgspec.to_builtins(request),
    }


def read_provenance(path: Path) -> Provenance:
    """Return what a clip says about its making. Raises `InvalidMedia` for a clip that says nothing."""
    comment = read_metadata(path).get("comment", "")
    try:
        return msgspec.json.decode(comment, type=Provenance)
    except msgspec.MsgspecError:
        raise InvalidMedia(
            "This clip does not say how it was made; only clips that Vitascope wrote can be made again."
        ) from None
