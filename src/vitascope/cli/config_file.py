"""`--config FILE`: flags in a JSON or YAML file, flat or in groups. Flags on the command line win."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.core import TyperCommand

from vitascope.cli.peer_flags import PEER_FLAGS, PeerFlag, refusal
from vitascope.cli.peer_syntax import Rewriter
from vitascope.errors import ConfigurationError, InvalidType, UnknownField, nearest


def read_config(path: Path, known: list[str]) -> dict[str, str | list[str]]:
    """Return the file's values by flag name, as one would type them.

    Keys are flag names with `-` or `_`, or a peer's (`peer_flags`). A mapping is a group; what groups are
    called does not matter.

    Raises:
        ConfigurationError: the file cannot be read or is no mapping, or sets a name twice.
        UnknownField: a key that is no flag, with the nearest one; or keys of features that are not here.

    """
    values: dict[str, str | list[str]] = {}
    refused: list[tuple[PeerFlag, str | list[str]]] = []
    for where, key, value in _flat(_parse(path), path.name):
        row = PEER_FLAGS.get(key)
        if key not in known and row is None:
            raise UnknownField(f"{where}: there is no such key{nearest(key, known)}", param=key)
        if value is None:
            continue
        typed = _typed_out(where, value)
        meaning = {key: typed} if key in known or row is None else row.meaning(_lower(row, typed), known)
        if meaning is None and row is not None:
            refused.append((row, _lower(row, typed)))
        for name, own_value in (meaning or {}).items():
            if name in values:
                raise ConfigurationError(f"{where}: this is set twice in the file.", param=name)
            values[name] = own_value
    if refused:
        raise UnknownField(f"{path.name}: {refusal(refused)}", param=refused[0][0].name)
    return values


class ConfigurableCommand(TyperCommand):
    """A command whose flags may come from a file, and that understands the peers' flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, rewritten into our own options."""
        return super().parse_args(ctx, Rewriter(self.params).rewrite(args))


def use_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Take a file's values for flags that are not given; the callback of `--config`."""
    if path is not None:
        options = {p.name: p for p in ctx.command.params if p.param_type_name == "option"}
        known = [name for name in options if name not in {None, "config", "help"}]
        values = read_config(path, [name for name in known if name])
        ctx.default_map = {
            name: [value] if options[name].multiple and isinstance(value, str) else value
            for name, value in values.items()
        }
    return path


class _Loader(yaml.SafeLoader):
    """Plain YAML: a key stands once in its mapping, and nothing is written down to be repeated.

    What stands there is what would be typed: `no` is a word, `12:4:37` no number of seconds.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse `*name`: a few lines of them can stand for more than a memory holds, or for themselves."""
        if self.check_event(yaml.AliasEvent):
            problem = "write the value out instead of an alias"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # its signature
        """Refuse a key that stands twice."""
        keys = [key.value for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.MarkedYAMLError(problem=f"{key} is set twice", problem_mark=mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [row for row in rows if row[0] == "tag:yaml.org,2002:null"]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse(path: Path) -> Mapping[str, Any]:
    kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
    try:
        text = path.read_text(encoding="utf-8")
        content = _from_json(text) if kind == "JSON" else yaml.load(text, _Loader)  # noqa: S506  # a safe one
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}.", param="config") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not valid {kind}{_reason(error)}", param="config") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no keys and values, such as `num_frames: 9`.", param="config")
    return content


def _from_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(next(f"{name} is set twice" for name in names if names.count(name) > 1))
    return found


def _reason(error: Exception) -> str:
    """Say where a file is wrong and why, as the end of a sentence."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f": line {error.problem_mark.line + 1}: {error.problem}."
    if isinstance(error, json.JSONDecodeError):
        return f": line {error.lineno}: {error.msg}."
    return ": it is nested too deeply." if isinstance(error, RecursionError) else f": {error}."


def _flat(group: Mapping[Any, Any], where: str) -> Iterator[tuple[str, str, Any]]:
    for key, value in group.items():
        place = f"{where}: {key}" if where.count(":") == 0 else f"{where}.{key}"
        if isinstance(value, dict):
            yield from _flat(value, place)
        else:
            yield place, str(key).replace("-", "_"), value


def _lower(row: PeerFlag, typed: str | list[str]) -> str | list[str]:
    return typed.lower() if row.is_switch and isinstance(typed, str) else typed


def _typed_out(where: str, value: Any) -> str | list[str]:
    """Turn a value into what would be typed: a file and a command line are checked by the same rules."""
    if isinstance(value, list):
        return [_word(where, item) for item in value]
    return _word(where, value)


def _word(where: str, value: Any) -> str:
    if isinstance(value, bool | int | float | str):
        return str(value)
    inner = {"list": "list in a list", "dict": "mapping in a list"}
    kind = inner.get(type(value).__name__, type(value).__name__)
    raise InvalidType(f"{where}: a {kind} is no value for a flag; a text in quotes is.")
