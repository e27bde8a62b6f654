"""What is written as NAME=PATH: adapters, models beside the first, files of weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitascope.errors import ConfigurationError

MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_ADAPTER = re.compile(
    r"(?P<name>[A-Za-z0-9][\w-]{0,63})(\.(?P<expert>high|low))?=(?P<path>.+?)(:(?P<weight>[+-]?(\d+\.?\d*|\.\d+)))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """One adapter (LoRA) to register; `expert` is None where it is for every transformer.

    `weight` is what a request's scale of 1 stands for.
    """

    name: str
    path: Path
    weight: float = 1.0
    expert: Literal["high", "low"] | None = None


def parse_adapter(text: str) -> AdapterSpec:
    """Read `NAME=PATH`, `NAME.high=PATH` or `NAME.low=PATH`, with `:WEIGHT` at the end if wanted.

    Raises:
        ConfigurationError: it is written otherwise.

    """
    match = _ADAPTER.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"lora is {text!r}; write NAME=PATH or NAME=PATH:WEIGHT (NAME of letters, digits, - and _), and "
            "NAME.high=PATH and NAME.low=PATH for an adapter of one of two experts."
        )
    expert: Any = match["expert"]
    weight = 1.0 if match["weight"] is None else float(match["weight"])
    return AdapterSpec(name=match["name"], path=Path(match["path"]), weight=weight, expert=expert)


def parse_named(setting: str, text: str) -> tuple[str, str]:
    """Read `NAME=PATH`, a model's folder or hub id under a name.

    Raises:
        ConfigurationError: it is written otherwise.

    """
    name, _, path = text.partition("=")
    if not MODEL_NAME.fullmatch(name) or not path:
        raise ConfigurationError(
            f"{setting} is {text!r}; write NAME=PATH or NAME=owner/model, NAME in letters, digits, ., -, _."
        )
    return name, path


def parse_weights(text: str) -> tuple[str, Path]:
    """Read `FILE` or `COMPONENT=FILE`; a file alone is for the component `transformer`."""
    part, equals, path = text.partition("=")
    if equals and re.fullmatch(r"transformer\w*", part, re.ASCII):
        return part, Path(path)
    return "transformer", Path(text)
