"""Command lines as Xinference's users write them, rewritten into the options of our commands.

What `launch` is told as `--key value` besides goes to the server as it stands, which knows the keys: see
`api/launch_keys.py`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand

SET = "--set"


@dataclass(frozen=True, slots=True)
class Spelling:
    """One of Xinference's flags: our option or the launch's key that it means.

    `num_words` follow it: two are a name and its value; a flag of none has the `value` given here.
    """

    means: str
    num_words: int = 1
    value: str = ""


SPELLINGS = {
    "-e": Spelling("--url"),
    "--endpoint": Spelling("--url"),
    "-ak": Spelling("--api-key"),
    "-n": Spelling("--model-name"),
    "-u": Spelling("--model-uid"),
    "-t": Spelling("--model-type"),
    "-mp": Spelling("--model-path"),
    "-lm": Spelling("--lora", 2),
    "--lora-modules": Spelling("--lora", 2),
    "-en": Spelling("model_engine"),
    "-s": Spelling("model_size_in_billions"),
    "--size-in-billions": Spelling("model_size_in_billions"),
    "-f": Spelling("model_format"),
    "-q": Spelling("quantization"),
    "-r": Spelling("replica"),
    "--enable-virtual-env": Spelling("enable_virtual_env", 0, "True"),
    "--disable-virtual-env": Spelling("enable_virtual_env", 0, "False"),
    "--enable-thinking": Spelling("enable_thinking", 0, "True"),
    "--disable-thinking": Spelling("enable_thinking", 0, "False"),
    "-vp": Spelling("virtual_env_packages"),
    "--virtual-env-package": Spelling("virtual_env_packages"),
    "-ev": Spelling("envs", 2),
    "--env": Spelling("envs", 2),
    "-ld": Spelling("image_lora_load_kwargs", 2),
    "--image-lora-load-kwargs": Spelling("image_lora_load_kwargs", 2),
    "-fd": Spelling("image_lora_fuse_kwargs", 2),
    "--image-lora-fuse-kwargs": Spelling("image_lora_fuse_kwargs", 2),
}


class XinferenceCommand(TyperCommand):
    """A command that understands Xinference's spellings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, rewritten into our own options."""
        return super().parse_args(ctx, [*_Rewriter(self.get_params(ctx)).rewrite(args)])


class _Rewriter:
    """Rewrites the arguments of one command, whose parameters are given as its parser has them."""

    def __init__(self, params: Sequence[Any]) -> None:
        options = [param for param in params if param.param_type_name == "option"]
        self._own = {spelling: p for p in options for spelling in (*p.opts, *p.secondary_opts)}
        self._takes_keys = SET in self._own

    def rewrite(self, args: Sequence[str]) -> Iterator[str]:
        """Yield the arguments in our own options. Raises `typer.BadParameter` where a value is missing."""
        left = deque(args)
        while left:
            word = left.popleft()
            if word == "--":
                yield from (word, *left)
                return
            yield from self._one(word, left) if word.startswith("-") else [word]

    def _one(self, word: str, left: deque[str]) -> Iterator[str]:
        given, equals, value = word.partition("=")
        name = given.replace("_", "-") if given.startswith("--") else given
        if equals:
            left.appendleft(value)
        if name in self._own:
            yield name if self._own[name].is_flag else f"{name}={_word(name, left)}"
        elif name in SPELLINGS and (self._takes_keys or SPELLINGS[name].means in self._own):
            yield _meant(name, SPELLINGS[name], left)
        elif self._takes_keys and name.startswith("--"):
            yield f"{SET}={name[2:].replace('-', '_')}={_value(left)}"
        else:
            yield word
            if equals:
                left.popleft()


def _meant(name: str, spelling: Spelling, left: deque[str]) -> str:
    words = [_word(name, left) for _ in range(spelling.num_words)]
    if spelling.means.startswith("--"):
        return f"{spelling.means}={'='.join(words)}"
    value = json.dumps(dict([words])) if len(words) == 2 else "".join(words) or spelling.value
    return f"{SET}={spelling.means}={value}"


def _word(name: str, left: deque[str]) -> str:
    if not left:
        raise typer.BadParameter(f"{name} needs a value.")
    return left.popleft()


def _value(left: deque[str]) -> str:
    """Take the value of a key; one without a value is on."""
    return left.popleft() if left and not left[0].startswith("--") else "True"
