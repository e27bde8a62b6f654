"""The prompt-embedding cache: texts that were encoded lately, so that a repeated prompt costs nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

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
