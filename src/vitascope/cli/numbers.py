"""Numbers on a command line: what is none is told in the words that a request's are, not in typer's."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any, get_args, get_origin

import typer

_INTEGER = re.compile(r"[+-]?\d{1,20}", re.ASCII)


def with_reader(parameter: Parameter) -> Parameter:
    """Give an option of an integer or a number, or None, the reader of these; return it."""
    if get_origin(parameter.annotation) is Annotated:
        kind, option = get_args(parameter.annotation)
        plain = {kind, *get_args(kind)} & {int, float}
        if plain and option.parser is None:
            (number,) = plain
            option.parser = _within(_integer if number is int else _number, option.min, option.max)
            option.metavar = option.metavar or f"<{number.__name__}>"
    return parameter


def _within(read: Callable[[str], Any], low: float | None, high: float | None) -> Callable[[Any], Any]:
    def read_number(given: Any) -> Any:
        value = read(given) if isinstance(given, str) else given  # a default is a number already
        if low is not None and value < low:
            raise typer.BadParameter(f"{given} is below {low}.")
        if high is not None and value > high:
            raise typer.BadParameter(f"{given} is above {high}.")
        return value

    return read_number


def _integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise typer.BadParameter(f"{text[:40]!r} is not an integer.")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is not a number.") from None
