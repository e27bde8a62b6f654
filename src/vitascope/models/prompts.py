"""What all text encoders share: the cache of prompts encoded lately, and the words for those read in part."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

from vitascope.request import GenerationRequest

V = TypeVar("V")


class PromptCache(Generic[V]):
    """Keeps the newest `max_entries` values; the one that was not asked for the longest goes first."""

    def __init__(self, max_entries: int = 32) -> None:
        self._entries: OrderedDict[Hashable, V] = OrderedDict()
        self._max_entries = max_entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """Return the kept value of `key`, or make and keep it."""
        if key not in self._entries:
            self._entries[key] = make()
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        return self._entries[key]


class Extent(NamedTuple):
    """How many tokens a text has, and how many of it are read at most; special tokens count in neither."""

    num_tokens: int
    limit: int


def extent(tokenizer: Any, text: str, length: int) -> Extent:
    """Measure a text of which a tokenizer makes `length` tokens at most, its special ones among them."""
    tokens = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return Extent(len(tokens), length - tokenizer.num_special_tokens_to_add())


def unread(
    request: GenerationRequest, measure: Callable[[str], Extent], *, guided: bool, part: str = ""
) -> tuple[str, ...]:
    """Warn of prompts that are longer than what is read of them, the negative one only where it is `guided`.

    `part` names what `measure` looks at, if that is not the whole prompt.
    """
    texts = {"prompt": request.prompt}
    if guided:
        texts["negative prompt"] = request.negative_prompt
    extents = {f"{part}{name}": measure(text) for name, text in texts.items()}
    return tuple(
        f"The {name} has {num_tokens} tokens; the model reads the first {limit}, and the rest has no effect."
        for name, (num_tokens, limit) in extents.items()
        if num_tokens > limit
    )
