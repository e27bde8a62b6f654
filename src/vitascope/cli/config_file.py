"""`--config FILE`: flags in a JSON or YAML file, flat or in groups. Flags on the command line win."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.core import TyperCommand

from vitascope.cli.absent import refusal
from vitascope.config import nearest
from vitascope.errors import ConfigurationError, InvalidType, UnknownField


def read_config(path: Path, known: list[str]) -> dict[str, str | list[str]]:
    """Return the file's values by flag name, as one would type them.

    Keys are flag names with `-` or `_`. A mapping is a group; what groups are called does not matter.

    Raises:
        ConfigurationError: the file cannot be read or is no mapping, or sets a name twice.
        UnknownField: a key that is no flag, with the nearest one.

    """
    values: dict[str, str | list[str]] = {}
    for where, key, value in _flat(_parse(path), path.name):
        if key not in known:
            raise UnknownField(
                f"{where}: {refusal(key) or f'there is no such key{nearest(key, known)}'}", param=key
            )
        if key in values:
            raise ConfigurationError(f"{where}: this is set twice in the file.", param=key)
        if value is not None:
            values[key] = _typed_out(where, value)
    return values


class ConfigurableCommand(TyperCommand):
    """A command whose flags may come from a file, and that refuses by name what this version lacks."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; absent features are looked for first."""
        for arg in args:
            name = arg.partition("=")[0].removeprefix("--").replace("-", "_")
            if arg.startswith("--") and (reason := refusal(name)):
                raise typer.BadParameter(reason)
        return super().parse_args(ctx, args)


def use_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Take a file's values for flags that are not given; the callback of `--config`."""
    if path is not None:
        known = [p.name for p in ctx.command.params if p.name not in {None, "config", "help"}]
        ctx.default_map = dict(read_config(path, [name for name in known if name]))
    return path


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}.", param="config") from None
    except (ValueError, yaml.YAMLError):
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise ConfigurationError(f"{path} is not valid {kind}.", param="config") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no keys and values.", param="config")
    return content


def _flat(group: Mapping[Any, Any], where: str) -> Iterator[tuple[str, str, Any]]:
    for key, value in group.items():
        place = f"{where}: {key}" if where.count(":") == 0 else f"{where}.{key}"
        if isinstance(value, dict):
            yield from _flat(value, place)
        else:
            yield place, str(key).replace("-", "_"), value


def _typed_out(where: str, value: Any) -> str | list[str]:
    """Turn a value into what would be typed: a file and a command line are checked by the same rules."""
    if isinstance(value, list):
        return [str(_typed_out(where, item)) for item in value]
    if isinstance(value, bool | int | float | str):
        return str(value)
    raise InvalidType(f"{where}: a {type(value).__name__} is no value for a flag.")
