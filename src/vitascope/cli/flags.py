"""Commands whose flags are the fields of dataclasses: one description of a value, its type and its help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from inspect import Parameter, Signature
from typing import Any, get_type_hints

from vitascope.cli.numbers import with_reader


def taking(*parts: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function that takes one value of each of these dataclasses, in order.

    Every field becomes a parameter that typer reads: `Annotated[type, typer.Option(...)]`.
    """

    def decorate(run: Callable[..., None]) -> Callable[..., None]:
        def split(values: dict[str, Any]) -> list[Any]:
            return [part(**{f.name: values[f.name] for f in fields(part)}) for part in parts]

        return with_parameters(
            lambda **values: run(*split(values)), [_parameter(p, f) for p in parts for f in fields(p)], run
        )

    return decorate


def with_parameters(
    command: Callable[..., None], parameters: list[Parameter], like: Callable[..., None]
) -> Callable[..., None]:
    """Give a function of any keywords the signature that typer shall see, and `like`'s name and help."""
    parameters = [with_reader(parameter) for parameter in parameters]
    command.__name__, command.__doc__ = like.__name__, like.__doc__
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what inspect looks for first
    return command


def _parameter(part: type[Any], field: Field[Any]) -> Parameter:
    hints = get_type_hints(part, include_extras=True)
    default = Parameter.empty if field.default is MISSING else field.default
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name])
