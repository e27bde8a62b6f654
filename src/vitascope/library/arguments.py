"""What the library's callers give, checked by name before any work: types, and keywords that nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from vitascope.card import WISH_FIELDS, Wish
from vitascope.config.named_paths import AdapterSpec, parse_adapter
from vitascope.errors import ConfigurationError, InvalidType, UnknownField, nearest
from vitascope.models.family import Media
from vitascope.request import AttentionCache

_APART = {"prompt", "num_outputs", "continues", "first_frame", "last_frame", "video", "loras"}
_WISHES = [name for name in WISH_FIELDS if name not in _APART]
_KEYWORDS = [*_WISHES, "image", "last_image", "loras", "on_progress", "resize_mode", "video"]
_TYPES = {name: get_args(hint)[0] for name, hint in get_type_hints(Wish).items()}  # each or None
_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    AttentionCache: "an AttentionCache",
}
_ARGUMENTS: dict[str, tuple[Any, str]] = {
    "path": (str | Path | None, "a folder or a hub id (owner/name)"),
    "device": (str, "auto, cpu, cuda or cuda:N"),
    "dtype": (str | None, "the name of one, as 'bfloat16'"),
    "vae_dtype": (str, "auto or float32"),
    "num_threads": (int | None, "a whole number"),
    "revision": (str | None, "a branch, tag or commit"),
    "cache_dir": (str | Path | None, "a folder"),
    "offline": (bool, "True or False"),
    "on_download": (Callable | None, "a function"),
    "on_load": (Callable | None, "a function"),
    "on_progress": (Callable | None, "a function"),
}


def check_types(**given: Any) -> None:
    """Refuse arguments of another type.

    Raises:
        InvalidType: names the argument, what was given and what would do.

    """
    for name, value in given.items():
        kind, said = _ARGUMENTS[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _wrong(name, value, said)


def check_threads(num_threads: int | None) -> None:
    """Refuse fewer threads than one. Raises `ConfigurationError`."""
    if num_threads is not None and num_threads < 1:
        raise ConfigurationError(
            f"num_threads is {num_threads}; it must be 1 or more. Leave it out for PyTorch's own choice."
        )


def adapters_of(loras: Mapping[str, str | Path] | None) -> list[AdapterSpec]:
    """Read the adapters to load, files by their names. Raises `InvalidType`, `ConfigurationError`."""
    files = _mapping("loras", loras, str | Path, "a mapping of names to files")
    return [parse_adapter(f"{name}={path}") for name, path in files.items()]


def files_of(transformer_path: str | Path | Mapping[str, str | Path] | None) -> dict[str, Path]:
    """Read which components come from files of their own. Raises `InvalidType`."""
    if isinstance(transformer_path, str | Path):
        return {"transformer": Path(transformer_path)}
    said = "a file, or a mapping of components to files"
    files = _mapping("transformer_path", transformer_path, str | Path, said)
    return {part: Path(path) for part, path in files.items()}


def wish_of(prompt: str, media: Media, loras: Mapping[str, float] | None, wishes: Mapping[str, Any]) -> Wish:
    """Make a wish of keywords.

    Raises:
        UnknownField: a keyword that nobody knows.
        InvalidType: a value of another type than its keyword's.

    """
    for name in wishes:
        if name not in _WISHES:
            others = [known for known in _KEYWORDS if known != name]
            raise UnknownField(f"There is no keyword {name!r}{nearest(name, others)}", param=name)
    scales = _mapping("loras", loras, int | float | np.number, "a mapping of names to scales")
    return Wish(
        prompt=_typed("prompt", prompt),
        first_frame=None if media.first_frame is None else "to be fitted",
        last_frame=None if media.last_frame is None else "to be fitted",
        loras=tuple((name, float(scale)) for name, scale in scales.items()),
        **{name: _typed(name, value) for name, value in wishes.items()},
    )


def _typed(name: str, value: Any) -> Any:
    """Return a value as its keyword has it: numbers of numpy become Python's. Raises `InvalidType`."""
    kind = _TYPES[name]
    if value is None or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    if kind is int and isinstance(value, np.integer):
        return int(value)
    if kind is float and isinstance(value, int | np.integer | np.floating) and not isinstance(value, bool):
        return float(value)
    raise _wrong(name, value, _KINDS[kind])


def _mapping(name: str, given: Any, kind: Any, said: str) -> Mapping[str, Any]:
    """Return a mapping of names to values of a kind; an empty one for None. Raises `InvalidType`."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _wrong(name, given, said)
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, kind) or isinstance(value, bool):
            raise _wrong(name, {key: value}, said)
    return given


def _wrong(name: str, value: Any, said: str) -> InvalidType:
    return InvalidType(f"{name} is {value!r:.60}; it must be {said}.", param=name)
