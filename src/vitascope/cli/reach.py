"""Which running server a command speaks to, and how it answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitascope.config.connection import load_connection

if TYPE_CHECKING:
    from vitascope.cli.remote import Remote


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Which server, and how to answer."""

    url: Annotated[
        str | None,
        typer.Option(
            help="Server; VITASCOPE_URL, or http://127.0.0.1:8000 if neither is given.", show_default=False
        ),
    ] = None
    api_key: Annotated[
        str | None, typer.Option(help="Its key; VITASCOPE_API_KEY if not given.", show_default=False)
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False

    def remote(self) -> Remote:
        """Connect."""
        from vitascope.cli.remote import Remote

        return Remote(load_connection(self.url, self.api_key))


def print_json(value: Any) -> None:
    """Print a value as JSON that people can read, too."""
    typer.echo(json.dumps(value, indent=2))
