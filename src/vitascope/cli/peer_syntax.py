"""Command lines as vLLM-Omni's and SGLang's users write them, rewritten into our own options.

Knows three habits besides the peers' flags: several values behind one flag (`--image-path a b`), switches
with a value (`--save-output false`), and names with underscores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from vitascope.cli.peer_flags import PEER_FLAGS, PeerFlag, refusal

BOOLEANS = ("true", "false")


class Rewriter:
    """Rewrites the arguments of one command, whose parameters are given as its parser has them."""

    def __init__(self, params: Sequence[Any]) -> None:
        options = [param for param in params if param.param_type_name == "option"]
        self._by_spelling = {spelling: p for p in options for spelling in (*p.opts, *p.secondary_opts)}
        self._takes_words = len(options) < len(params)
        self._known = {param.name for param in options}
        self._refused: list[tuple[PeerFlag, str]] = []

    def rewrite(self, args: Sequence[str]) -> list[str]:
        """Return the arguments in our own options. Raises `typer.BadParameter` for what is not here."""
        left, done = deque(args), list[str]()
        self._refused = []
        while left:
            word = left.popleft()
            if word == "--":
                return [*done, word, *left]
            done += self._one(word, left) if word.startswith("-") else [word]
        if self._refused:
            raise typer.BadParameter(refusal(self._refused))
        return done

    def _one(self, token: str, left: deque[str]) -> Iterator[str]:
        """Rewrite one flag, taking from what is left the values that belong to it."""
        given, equals, value = token.partition("=")
        spelling = given.replace("_", "-")
        option = self._by_spelling.get(spelling)
        row = PEER_FLAGS.get(spelling.removeprefix("--").replace("-", "_"))
        if option is not None and option.is_flag:
            yield from _switched(option, spelling, value if equals else _boolean(left))
        elif option is not None:
            yield from self._with_values(token, has_value=bool(equals), option=option, left=left)
        elif row is not None and spelling.startswith("--"):
            yield from self._translated(row, value if equals else _value(row, left))
        else:
            yield token

    def _with_values(self, token: str, *, has_value: bool, option: Any, left: deque[str]) -> Iterator[str]:
        yield token
        if not has_value and left:
            yield left.popleft()
        if option.multiple and not self._takes_words:  # where words stand alone, one more would be another's
            while left and not left[0].startswith("-"):
                yield from (option.opts[0], left.popleft())

    def _translated(self, row: PeerFlag, value: str) -> Iterator[str]:
        meaning = row.meaning(value.lower() if row.is_switch else value, self._known)
        if meaning is None:
            self._refused.append((row, value))
        for name, own_value in (meaning or {}).items():
            yield f"--{name.replace('_', '-')}={own_value}"


def _switched(option: Any, spelling: str, value: str | None) -> list[str]:
    """Return our switch for `--name`, `--name true` or `--name false`; click says what else is wrong."""
    if value is None or value.lower() == "true":
        return [spelling]
    if value.lower() != "false":
        return [f"{spelling}={value}"]
    other: list[str] = option.secondary_opts if spelling in option.opts else option.opts
    return other[:1]  # a switch without an opposite is off unless given


def _boolean(left: deque[str]) -> str | None:
    return left.popleft() if left and left[0].lower() in BOOLEANS else None


def _value(row: PeerFlag, left: deque[str]) -> str:
    """Take the value of a peer's flag; a switch without one is on."""
    if row.is_switch:
        return _boolean(left) or "true"
    if not left:
        raise typer.BadParameter(f"--{row.name.replace('_', '-')} needs a value.")
    return left.popleft()
